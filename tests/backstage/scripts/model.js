// Says which relations a document makes in Backstage, or why it is refused, as its catalog's processing asks its model:
// a line of JSON in, one out.
const { createInterface } = require('node:readline');
const model = require('@backstage/catalog-model');

const envelope = model.entityEnvelopeSchemaValidator();
const schema = model.entitySchemaValidator();
const policy = model.EntityPolicies.allOf([
  new model.SchemaValidEntityPolicy(),
  new model.DefaultNamespaceEntityPolicy(),
  new model.NoForeignRootFieldsEntityPolicy(),
  new model.FieldFormatEntityPolicy(),
]);
const kinds = Object.entries(model)
  .filter(([name]) => name.endsWith('EntityV1alpha1Validator'))
  .map(([, validator]) => validator);

// What the catalog backend reads as references, which its model does not say: field, kind that is meant, relation.
const OWNER = ['owner', 'Group', model.RELATION_OWNED_BY];
const SYSTEM = ['system', 'System', model.RELATION_PART_OF];
const DEPENDS = ['dependsOn', undefined, model.RELATION_DEPENDS_ON];
const DEPENDED = ['dependencyOf', undefined, model.RELATION_DEPENDENCY_OF];
const REFERENCES = {
  Component: [
    OWNER,
    SYSTEM,
    DEPENDS,
    DEPENDED,
    ['subcomponentOf', 'Component', model.RELATION_PART_OF],
    ['providesApis', 'API', model.RELATION_PROVIDES_API],
    ['consumesApis', 'API', model.RELATION_CONSUMES_API],
  ],
  API: [OWNER, SYSTEM],
  Resource: [OWNER, SYSTEM, DEPENDS, DEPENDED],
  User: [['memberOf', 'Group', model.RELATION_MEMBER_OF]],
  Group: [
    ['parent', 'Group', model.RELATION_CHILD_OF],
    ['children', 'Group', model.RELATION_PARENT_OF],
    ['members', 'User', model.RELATION_HAS_MEMBER],
  ],
  System: [OWNER, ['domain', 'Domain', model.RELATION_PART_OF]],
  Domain: [OWNER, ['subdomainOf', 'Domain', model.RELATION_PART_OF]],
};

function relations(entity) {
  const namespace = entity.metadata.namespace;
  return (REFERENCES[entity.kind] || []).flatMap(([field, defaultKind, type]) =>
    [entity.spec[field] || []].flat().map(target => [
      type,
      model.stringifyEntityRef(model.parseEntityRef(target, { defaultKind, defaultNamespace: namespace })),
    ]),
  );
}

async function judge(document) {
  envelope(document);
  const entity = await policy.enforce(document);
  schema(entity);
  for (const kind of kinds) {
    if (await kind.check(entity)) return relations(entity);
  }
  throw new Error('No processor recognized the entity');
}

(async () => {
  for await (const line of createInterface({ input: process.stdin })) {
    let said;
    try {
      said = { relations: await judge(JSON.parse(line)) };
    } catch (error) {
      said = { error: String(error.message || error) };
    }
    process.stdout.write(`${JSON.stringify(said)}\n`);
  }
})();
