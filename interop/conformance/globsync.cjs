// The conformance suite imports globSync from "fs", which Node has only since
// version 22; without it not even the parts that never call it load. Preloaded
// with `node --require`, this file gives the suite's own import an "fs" that has
// the name. Only the suite's tier-check command calls it, which is not run here,
// so calling it is an error that says so.
//
// Setting fs.globSync would not be enough: the names that a built-in module
// exports to ES modules are fixed the first time anyone asks for the module.
'use strict';

const { register } = require('node:module');

const [major] = process.versions.node.split('.').map(Number);

if (major < 22) {
  const shim = moduleURL(`
    export * from 'node:fs';
    export { default } from 'node:fs';
    export function globSync() {
      throw new Error('fs.globSync needs Node 22 or later');
    }
  `);
  register(moduleURL(`
    const shim = ${JSON.stringify(shim)};
    export async function resolve(specifier, context, next) {
      const suite = context.parentURL?.includes('/@modelcontextprotocol/conformance/');
      if (suite && (specifier === 'fs' || specifier === 'node:fs')) {
        return { url: shim, format: 'module', shortCircuit: true };
      }
      return next(specifier, context);
    }
  `));
}

function moduleURL(source) {
  return 'data:text/javascript,' + encodeURIComponent(source);
}
