import assert from 'node:assert/strict';
import { test } from 'node:test';
import { placesOf } from '../../../crates/web/ui/where.js';

const person = (userId, devices = [], here = true) => ({ userId, name: userId, here, devices });
const names = (places) => places.map(({ node, people }) => [node, people.map(({ person: { name }, devices }) => `${name}:${devices.length}`)]);

test('with one server everybody who is here is there', () => {
  const people = [person('bob', [{}, {}]), person('ana', [{}]), person('gone', [{}], false)];
  assert.deepEqual(names(placesOf(people, '', 'ana')), [['', ['ana:1', 'bob:2']]]);
});

test('with several, only what was said is claimed', () => {
  const people = [person('ana', [{}]), person('bob', [{ node: 'hub-2' }, {}]), person('chi')];
  assert.deepEqual(names(placesOf(people, 'hub-1', 'ana')),
    [['hub-1', ['ana:1']], ['hub-2', ['bob:1']], ['one of the servers', ['bob:1', 'chi:0']]]);
});
