'use strict';
// A Backstage backend with its catalog and nothing else, as it is set up from npm.
const { createBackend } = require('@backstage/backend-defaults');

const backend = createBackend();
backend.add(require('@backstage/plugin-catalog-backend'));
backend.start();
