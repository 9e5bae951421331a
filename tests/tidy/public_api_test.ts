/** The public API is documented: every export of mod.ts says what it is. */

import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";

/** As `deno doc --json` (version 2) describes an export, as far as it is read here. */
interface Declaration {
  readonly jsDoc?: { readonly doc?: string };
  readonly location: { readonly filename: string; readonly line: number };
}

function isUndocumented(declaration: Declaration): boolean {
  return (declaration.jsDoc?.doc ?? "").trim() === "";
}

/** Names of what lacks a description. */
function undocumented(symbols: readonly { name: string; declarations: readonly Declaration[] }[]): string[] {
  const missing: string[] = [];
  for (const symbol of symbols) {
    for (const declaration of symbol.declarations) {
      const place = `${declaration.location.filename}:${declaration.location.line}`;
      if (isUndocumented(declaration)) missing.push(`${symbol.name} (${place})`);
    }
  }
  return missing;
}

Deno.test("every export of mod.ts is documented", async () => {
  const root = fileURLToPath(new URL("../../", import.meta.url));
  const output = await new Deno.Command(Deno.execPath(), {
    args: ["doc", "--json", "mod.ts"],
    cwd: root,
    env: { NO_COLOR: "1" },
    stdout: "piped",
    stderr: "piped",
  }).output();
  assert.equal(output.code, 0, new TextDecoder().decode(output.stderr));
  const nodes = JSON.parse(new TextDecoder().decode(output.stdout)).nodes;
  const [module] = Object.values(nodes) as { module_doc?: { doc: string }; symbols: [] }[];
  assert.ok(module.module_doc?.doc, "mod.ts opens with what it is for");
  assert.ok(module.symbols.length > 0, "mod.ts exports something");
  assert.deepEqual(undocumented(module.symbols), []);
});

Deno.test("a missing description is found", () => {
  const location = { filename: "a.ts", line: 1 };
  assert.deepEqual(undocumented([{ name: "a", declarations: [{ location, jsDoc: { doc: "What it is." } }] }]), []);
  assert.equal(undocumented([{ name: "a", declarations: [{ location }] }]).length, 1);
});
