/** The small tables of the data plane: numbers of operations, waiting reads, keys of connections. */

import assert from "node:assert/strict";
import fc from "fast-check";
import { CONNECTION_LIMIT, ConnectionKeys } from "../../../lib/node/connection_keys.ts";
import { OperationTable } from "../../../lib/node/operation_table.ts";
import { ReadQueue } from "../../../lib/node/read_queue.ts";

Deno.test("OperationTable keeps token and slot of each operation, whatever the order, and grows", () => {
  fc.assert(fc.property(fc.array(fc.nat({ max: 999 }), { maxLength: 2000 }), (choices) => {
    const table = new OperationTable();
    const model = new Map<number, { token: number; slot: number }>();
    choices.forEach((choice, i) => {
      if (choice % 3 !== 0 || model.size === 0) {
        const operation = table.add(i * 2 ** 33, choice - 1, i);
        assert.ok(!model.has(operation), "a number in use is not given twice");
        model.set(operation, { token: i * 2 ** 33, slot: choice - 1 });
      } else {
        const [operation, expected] = [...model][choice % model.size];
        assert.deepEqual({ token: table.token(operation), slot: table.slot(operation) }, expected);
        assert.equal(table.startedMs(operation) * 2 ** 33, expected.token);
        table.remove(operation);
        model.delete(operation);
      }
      assert.equal(table.usedCount, model.size);
    });
  }));
});

Deno.test("OperationTable takes removing twice for a bug", () => {
  const table = new OperationTable();
  const operation = table.add(1, 2, 3);
  table.remove(operation);
  assert.throws(() => table.remove(operation), /given back once/);
});

Deno.test("ReadQueue gives reads back in the order they came", () => {
  fc.assert(fc.property(fc.array(fc.boolean(), { maxLength: 1000 }), (pushes) => {
    const queue = new ReadQueue();
    const model: number[] = [];
    pushes.forEach((isPush, i) => {
      if (isPush) {
        queue.push(i, i * 4096 + 2 ** 40, i + 1);
        model.push(i);
      } else if (model.length > 0) {
        const first = model.shift()!;
        assert.equal(queue.firstToken, first);
        assert.equal(queue.firstOffset, first * 4096 + 2 ** 40);
        assert.equal(queue.firstLengthBytes, first + 1);
        queue.shift();
      }
      assert.equal(queue.length, model.length);
    });
  }));
});

Deno.test("ConnectionKeys: a key outlives its connection and never stands for the next one", () => {
  const keys = new ConnectionKeys();
  const first = keys.open(3);
  assert.equal(keys.connectionOf(first), 3);
  assert.equal(keys.keyOf(3), first);
  keys.close(3);
  assert.equal(keys.connectionOf(first), -1);
  const second = keys.open(3);
  assert.notEqual(second, first);
  assert.equal(keys.connectionOf(first), -1);
  assert.equal(keys.connectionOf(second), 3);
  assert.throws(() => keys.open(CONNECTION_LIMIT), /fewer connections/);
});
