/** The public API is documented: `deno doc --lint` finds nothing missing in mod.ts. */

import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";

Deno.test("every export of mod.ts is documented", async () => {
  const root = fileURLToPath(new URL("../../", import.meta.url));
  const output = await new Deno.Command(Deno.execPath(), {
    args: ["doc", "--lint", "mod.ts"],
    cwd: root,
    env: { NO_COLOR: "1" },
    stdout: "null",
    stderr: "piped",
  }).output();
  assert.equal(output.code, 0, new TextDecoder().decode(output.stderr));
});
