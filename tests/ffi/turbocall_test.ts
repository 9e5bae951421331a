import assert from "node:assert/strict";

// A foreign call costs a few ns as a fast call and over 100 ns as a slow one, and nothing but speed tells the difference:
// a signature with a 64-bit number silently makes it slow. So the calls of the data path are checked by name.
Deno.test("the foreign calls of the data path are fast calls", async () => {
  const output = await new Deno.Command(Deno.execPath(), {
    args: ["run", "--no-prompt", "--allow-ffi", "--allow-read", import.meta.resolve("./turbocall_probe.ts")],
    env: { DENO_UNSTABLE_FFI_TRACE_TURBO: "1", NO_COLOR: "1" },
    stdout: "piped",
    stderr: "piped",
  }).output();
  const errors = new TextDecoder().decode(output.stderr);
  assert.equal(output.code, 0, errors);
  assert.deepEqual(JSON.parse(new TextDecoder().decode(output.stdout)), {
    clock: "clock_gettime",
    letOthersRun: "sched_yield",
    wake: "write_word",
    enter: "io_uring_enter",
    enterFor: "io_uring_enter",
    bound: "ffi_call",
    boundVoid: "ffi_call",
    boundGeneral: "none",
    slow: "none",
  });
});
