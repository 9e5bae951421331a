import assert from "node:assert/strict";
import { Errno, errnoName } from "../../ffi/libc/errno.ts";

Deno.test("errnoName() names both signs, zero and the unknown", () => {
  assert.equal(errnoName(-5), "EIO (input/output error)");
  assert.equal(errnoName(5), "EIO (input/output error)");
  assert.equal(errnoName(-125), "ECANCELED (operation cancelled)");
  assert.equal(errnoName(0), "no error");
  assert.equal(errnoName(-4000), "error 4000");
});

Deno.test("every number in Errno has the name it is listed under", () => {
  for (const [name, number] of Object.entries(Errno)) {
    assert.ok(errnoName(-number).startsWith(`${name} (`), `${name} = ${number}: ${errnoName(-number)}`);
  }
});
