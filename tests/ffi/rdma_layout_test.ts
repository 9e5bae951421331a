/** What we assume of libibverbs' and librdmacm's structures is what the installed headers say. */

import assert from "node:assert/strict";
import { CmEventType, RDMACM_LAYOUT } from "../../ffi/rdmacm/layout.ts";
import { VERBS_LAYOUT } from "../../ffi/verbs/layout.ts";

Deno.test("structures and constants of rdma-core lie where the installed headers have them", async () => {
  const dir = await Deno.makeTempDir();
  try {
    const source = new URL("../../ffi/probe/layout_probe.c", import.meta.url).pathname;
    const compiled = await new Deno.Command("cc", { args: [source, "-o", `${dir}/probe`] }).output();
    assert.equal(
      compiled.code,
      0,
      `Compiling needs gcc, libibverbs-dev and librdmacm-dev: ${new TextDecoder().decode(compiled.stderr)}`,
    );
    const { stdout } = await new Deno.Command(`${dir}/probe`).output();
    const measured: Record<string, number> = {};
    for (const line of new TextDecoder().decode(stdout).trim().split("\n")) {
      const at = line.lastIndexOf(" ");
      measured[line.slice(0, at)] = Number(line.slice(at + 1));
    }
    const events = Object.fromEntries(
      Object.entries(CmEventType).map(([name, value]) => [`RDMA_CM_EVENT_${name}`, value]),
    );
    assert.deepEqual({ ...VERBS_LAYOUT, ...RDMACM_LAYOUT, ...events }, measured);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});
