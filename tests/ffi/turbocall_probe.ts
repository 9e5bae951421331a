/**
 * Runs the foreign calls of the data path until they are optimised and prints which of them were made as fast calls.
 * Run by `turbocall_test.ts` with `DENO_UNSTABLE_FFI_TRACE_TURBO=1`, under which Deno notes the last fast call.
 */

import { HeldMemory } from "../../ffi/libc/held_memory.ts";
import { letOthersRun, monotonicMs, newEventfd, wakeEventfd } from "../../ffi/libc/process.ts";
import { bindCall, bindVoidCall } from "../../ffi/libffi/bound_call.ts";
import { EnterFlag } from "../../ffi/uring/constants.ts";
import { UringRing } from "../../ffi/uring/ring.ts";

type Internals = { [key: symbol]: { getTurbocallTarget(): string | null } };
const deno = Deno as unknown as Internals & { internal: symbol };
const { getTurbocallTarget } = deno[deno.internal];

const CALLS_PER_ROUND = 5000;
const MAX_ROUNDS = 60;

/** The name of the fast call that `call` ends with, or "none" when it has not become one after many calls. */
function fastTarget(call: () => unknown): string {
  function round(): void {
    for (let i = 0; i < CALLS_PER_ROUND; i++) call();
  }
  for (let i = 0; i < MAX_ROUNDS; i++) {
    round();
    const target = getTurbocallTarget();
    if (target !== null) return target;
  }
  return "none";
}

const eventfd = newEventfd();
const ring = UringRing.open(8, 32);

// The same C function once with a 64-bit number: this one must be seen NOT to be fast, or the probe proves nothing.
const slow = Deno.dlopen("libc.so.6", { llabs: { parameters: ["i64"], result: "i64" } }).symbols;

// Function pointers, as the verbs of the data path are: through libffi, and the general way, which is not fast.
const text = new HeldMemory(8);
const pointers = Deno.dlopen("libc.so.6", { strncmp: { type: "pointer" }, swab: { type: "pointer" } }).symbols;
const strncmp = Number(Deno.UnsafePointer.value(pointers.strncmp));
const compare = [{ pointer: text.address }, { pointer: text.address }, { int: 3 }] as const;
const bound = bindCall(strncmp, compare);
const boundGeneral = bindCall(strncmp, compare, true);
const boundVoid = bindVoidCall(Number(Deno.UnsafePointer.value(pointers.swab)), compare);

console.log(JSON.stringify({
  clock: fastTarget(() => monotonicMs()),
  letOthersRun: fastTarget(() => letOthersRun()),
  wake: fastTarget(() => wakeEventfd(eventfd)),
  enter: fastTarget(() => ring.enter(0, 0, EnterFlag.GETEVENTS)),
  enterFor: fastTarget(() => ring.enterFor(0, 0, EnterFlag.GETEVENTS, 1)),
  bound: fastTarget(() => bound.call()),
  boundVoid: fastTarget(() => boundVoid.call()),
  boundGeneral: fastTarget(() => boundGeneral.call()),
  slow: fastTarget(() => slow.llabs(5 as unknown as bigint)),
}));
