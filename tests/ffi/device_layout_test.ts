/** What we assume of the structures of ublk, nbd and netlink is what the installed kernel headers say. */

import assert from "node:assert/strict";
import * as nbd from "../../ffi/nbd/abi.ts";
import * as netlink from "../../ffi/netlink/abi.ts";
import * as ublk from "../../ffi/ublk/abi.ts";

const PROBES: readonly [string, object][] = [["ublk", ublk], ["nbd", { ...nbd, ...netlink }]];

for (const [name, tables] of PROBES) {
  Deno.test(`structures and constants of ${name} lie where the installed headers have them`, async () => {
    const dir = await Deno.makeTempDir();
    try {
      const source = new URL(`../../ffi/probe/${name}_probe.c`, import.meta.url).pathname;
      const compiled = await new Deno.Command("cc", { args: [source, "-o", `${dir}/probe`] }).output();
      const said = new TextDecoder().decode(compiled.stderr);
      assert.equal(compiled.code, 0, `Compiling needs gcc and linux-libc-dev: ${said}`);
      const { stdout } = await new Deno.Command(`${dir}/probe`).output();
      const groups = tables as Record<string, number | Record<string, number>>;
      for (const line of new TextDecoder().decode(stdout).trim().split("\n")) {
        const [path, value] = line.split(" ");
        const [group, field] = path.split(".");
        const entry = groups[group];
        assert.equal(typeof entry === "number" ? entry : entry?.[field], Number(value), path);
      }
    } finally {
      await Deno.remove(dir, { recursive: true });
    }
  });
}
