/**
 * Ten thousand RDMA connections come and go: descriptors, registrations and memory are given back. Takes minutes; `ROUNDS`
 * makes it shorter.
 */

import assert from "node:assert/strict";
import { Bed } from "../bed/bed.ts";

const ROUNDS = Deno.env.get("ROUNDS") ?? "10000";
/** Each connection registers and pins the whole of both ends' memory, which takes a while under emulation. */
const LIMIT_MS = 2 * 3600_000;

Deno.test("thousands of RDMA connections leave nothing behind", async () => {
  await using bed = await Bed.open({ memoryMib: 3072, environment: { ROUNDS } });
  const guest = bed.guest(1);
  // A small young generation: what it grows to in the course of time is not taken for a leak.
  const output = await guest.run(
    `export NO_COLOR=1; exec ${Deno.execPath()} test --quiet --no-check --no-prompt --v8-flags=--expose-gc,--max-semi-space-size=2 ` +
      `--allow-ffi --allow-run ` +
      `--allow-read --allow-env --filter "come and go" tests/vm/guest/rdma_conformance.ts`,
    LIMIT_MS,
  );
  assert.equal(output.status, 0, output.stdout + output.stderr);
});
