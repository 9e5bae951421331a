/**
 * Makes `dist/brmr-compiled` with `deno compile`, from the bundle that `deno task build` made: both shipped forms run the same
 * bytes. The bundle is also the module of its workers, so nothing else needs embedding.
 *
 *     deno task compile [--out DIR]
 *
 * `deno compile` fetches Deno's runtime from Deno's release host. Without that host, set DENORT_BIN to a `denort`.
 *
 * @module
 */

import { parseArgs } from "node:util";
import { fileURLToPath } from "node:url";
import { allPermissionFlags } from "./permissions.ts";

const ROOT = fileURLToPath(new URL("../../", import.meta.url));

const { values: options } = parseArgs({
  args: Deno.args,
  options: { out: { type: "string", default: `${ROOT}dist` } },
});
const output = await new Deno.Command(Deno.execPath(), {
  args: [
    ...["compile", "--quiet", "--no-config", "--no-lock", ...allPermissionFlags()],
    ...["--output", `${options.out}/brmr-compiled`, `${options.out}/brmr.js`],
  ],
  stdout: "inherit",
  stderr: "piped",
}).output();
if (output.code !== 0) {
  console.error(new TextDecoder().decode(output.stderr).trim());
  console.error(
    "deno compile did not work. It needs dist/brmr.js (deno task build), and Deno's runtime: from Deno's release host, " +
      "or from a denort that DENORT_BIN names. The portable executable dist/brmr needs neither.",
  );
  Deno.exit(1);
}
console.log(`${options.out}/brmr-compiled`);
