/**
 * Runs the foreign calls of the data path until they are optimised and prints which of them were made as fast calls.
 * Run by `turbocall_test.ts` with `DENO_UNSTABLE_FFI_TRACE_TURBO=1`, under which Deno notes the last fast call.
 */

import { letOthersRun, monotonicMs, newEventfd, wakeEventfd } from "../../ffi/libc/process.ts";
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

console.log(JSON.stringify({
  clock: fastTarget(() => monotonicMs()),
  letOthersRun: fastTarget(() => letOthersRun()),
  wake: fastTarget(() => wakeEventfd(eventfd)),
  enter: fastTarget(() => ring.enter(0, 0, EnterFlag.GETEVENTS)),
  enterFor: fastTarget(() => ring.enterFor(0, 0, EnterFlag.GETEVENTS, 1)),
  slow: fastTarget(() => slow.llabs(5 as unknown as bigint)),
}));
