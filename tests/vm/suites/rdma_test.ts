/** RDMA on soft-RoCE: the conformance list that every transport passes, and a pool over it. */

import assert from "node:assert/strict";
import { Bed } from "../bed/bed.ts";
import { bundleBrmr } from "../bed/brmr.ts";

const DENO = Deno.execPath();

Deno.test("RDMA keeps the transport contract on a device", async () => {
  await using bed = await Bed.open({ memoryMib: 3072 });
  const guest = bed.guest(1);
  const output = await guest.run(
    `export NO_COLOR=1; exec ${DENO} test --quiet --no-check --no-prompt --v8-flags=--expose-gc ` +
      `--allow-ffi --allow-run --allow-read ` +
      `--allow-env tests/vm/guest/rdma_conformance.ts`,
    400_000,
  );
  assert.equal(output.status, 0, output.stdout + output.stderr + await guest.console());
});

Deno.test("a pool over RDMA is verified, loses a node, gets it back, sleeps when idle", async () => {
  await using bed = await Bed.open({ memoryMib: 3072 });
  const guest = bed.guest(1);
  const bundle = await bundleBrmr(bed.directory);
  const output = await guest.run(`DENO=${DENO} BRMR=${bundle} bash tests/vm/guest/rdma_pool.sh`, 400_000);
  assert.equal(output.status, 0, output.stdout + output.stderr + await guest.console());
  console.log(output.stdout);
});
