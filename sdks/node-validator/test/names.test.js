// The public names, and that types exist for each of them and for nothing else.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import test from 'node:test';

for (const name of ['index', 'express', 'testing']) {
  test(`${name}.d.ts names what ${name}.js exports`, async () => {
    const exported = Object.keys(await import(`../src/${name}.js`)).sort();
    const types = readFileSync(new URL(`../src/${name}.d.ts`, import.meta.url), 'utf8');
    const named = [...types.matchAll(/^export (?:class|function|const) (\w+)/gm)].map(([, found]) => found);
    assert.deepEqual(named.sort(), exported);
  });
}
