/** Function pointers are called with the arguments that were bound, through libffi and without it. */

import "./libc_opened.ts";
import assert from "node:assert/strict";
import { bindCall, bindVoidCall, hasFastPointerCalls } from "../../ffi/libffi/bound_call.ts";
import { HeldMemory } from "../../ffi/libc/held_memory.ts";

// LIFETIME: never closed, as the library itself is not.
const libc = Deno.dlopen("libc.so.6", { strncmp: { type: "pointer" }, swab: { type: "pointer" } }).symbols;
const strncmp = Number(Deno.UnsafePointer.value(libc.strncmp));
const swab = Number(Deno.UnsafePointer.value(libc.swab));
hasFastPointerCalls();

for (const general of [false, true]) {
  Deno.test(`a bound call sees what its memory holds now (${general ? "general" : "fast if libffi is there"})`, () => {
    const left = new HeldMemory(8);
    const right = new HeldMemory(8);
    const call = bindCall(strncmp, [{ pointer: left.address }, { pointer: right.address }, { int: 3 }], general);
    left.bytes.set([65, 66, 67, 68]);
    right.bytes.set([65, 66, 67, 69]);
    assert.equal(call.call(), 0);
    left.bytes[2] = 66;
    assert.ok(call.call() < 0);
    right.bytes[0] = 64;
    assert.ok(call.call() > 0);
  });

  Deno.test(`an argument is taken from memory at each call (${general ? "general" : "fast if libffi is there"})`, () => {
    const left = new HeldMemory(8);
    const right = new HeldMemory(8);
    const place = new HeldMemory(16);
    const call = bindCall(strncmp, [{ pointer: left.address }, { pointerAt: place.address + 8 }, { int: 3 }], general);
    left.bytes.set([65, 66, 67]);
    right.bytes.set([65, 66, 68]);
    place.setAddress(8, left.address);
    assert.equal(call.call(), 0);
    place.setAddress(8, right.address);
    assert.ok(call.call() < 0);
    assert.equal(place.getAddress(8), right.address);
  });

  Deno.test(`a function that returns nothing is called (${general ? "general" : "fast if libffi is there"})`, () => {
    const from = new HeldMemory(8);
    const to = new HeldMemory(8);
    const call = bindVoidCall(swab, [{ pointer: from.address }, { pointer: to.address }, { int: 4 }], general);
    from.bytes.set([1, 2, 3, 4, 5]);
    call.call();
    assert.deepEqual([...to.bytes], [2, 1, 4, 3, 0, 0, 0, 0]);
  });
}

Deno.test("libffi is found on this machine, so that the data path's calls are fast", () => {
  assert.ok(hasFastPointerCalls());
});
