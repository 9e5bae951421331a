/** Ten thousand RDMA connections come and go: descriptors, registrations and memory are given back. */

import assert from "node:assert/strict";
import { Bed } from "../bed/bed.ts";

Deno.test("10,000 RDMA connections leave nothing behind", async () => {
  await using bed = await Bed.open({ memoryMib: 3072, environment: { ROUNDS: "10000" } });
  const guest = bed.guest(1);
  const output = await guest.run(
    `export NO_COLOR=1; exec ${Deno.execPath()} test --quiet --no-check --no-prompt --allow-ffi --allow-run ` +
      `--allow-read --allow-env --filter "come and go" tests/vm/guest/rdma_conformance.ts`,
  );
  assert.equal(output.status, 0, output.stdout + output.stderr);
});
