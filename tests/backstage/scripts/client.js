// Calls methods of Backstage's CatalogClient: a line of JSON in, a line of JSON out.
const { createInterface } = require('node:readline');
const { CatalogClient, CATALOG_FILTER_EXISTS } = require('@backstage/catalog-client');

const [address, token] = process.argv.slice(2);
const client = new CatalogClient({ discoveryApi: { getBaseUrl: async () => address } });
const revive = (key, value) => (value === '$there' ? CATALOG_FILTER_EXISTS : value);

async function call({ method, args }) {
  if (method === 'methods') {
    return Object.getOwnPropertyNames(Object.getPrototypeOf(client));
  }
  // The last argument of each method; what is asked for may be left out.
  const found = client[method](...(args.length ? args : [undefined]), { token });
  if (found[Symbol.asyncIterator] === undefined) return found;
  const pages = [];
  for await (const page of found) pages.push(page);
  return pages;
}

(async () => {
  for await (const line of createInterface({ input: process.stdin })) {
    let said;
    try {
      said = { result: await call(JSON.parse(line, revive)) };
    } catch (error) {
      said = { error: { name: error.name, message: error.message, status: error.statusCode, body: error.body } };
    }
    // What is not there is undefined, which JSON does not know inside of lists.
    process.stdout.write(`${JSON.stringify(said, (key, value) => (value === undefined ? null : value))}\n`);
  }
})();
