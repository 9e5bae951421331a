/** What we assume of ublk's structures is what the installed kernel headers say. */

import assert from "node:assert/strict";
import * as abi from "../../ffi/ublk/abi.ts";

Deno.test("structures and constants of ublk lie where the installed headers have them", async () => {
  const dir = await Deno.makeTempDir();
  try {
    const source = new URL("../../ffi/probe/ublk_probe.c", import.meta.url).pathname;
    const compiled = await new Deno.Command("cc", { args: [source, "-o", `${dir}/probe`] }).output();
    const said = new TextDecoder().decode(compiled.stderr);
    assert.equal(compiled.code, 0, `Compiling needs gcc and linux-libc-dev: ${said}`);
    const { stdout } = await new Deno.Command(`${dir}/probe`).output();
    const groups = abi as unknown as Record<string, number | Record<string, number>>;
    for (const line of new TextDecoder().decode(stdout).trim().split("\n")) {
      const [name, value] = line.split(" ");
      const [group, field] = name.split(".");
      const entry = groups[group];
      assert.equal(typeof entry === "number" ? entry : entry?.[field], Number(value), name);
    }
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});
