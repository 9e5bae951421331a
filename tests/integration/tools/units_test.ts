/** The unit files and the udev rule among the examples: systemd accepts them, and the helper finds the pool of a device. */

import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { writeAttachState } from "../../../lib/control/attach_state.ts";
import { runCommand } from "../cluster.ts";
import { requireTools } from "./required_tools.ts";

const EXAMPLES = new URL("../../../examples/", import.meta.url);
/**
 * How each is started, and its most exposure as `systemd-analyze security` counts, from 0 (no access) to 10; `brmr attach` is root,
 * since it makes block devices.
 */
const SERVICES = {
  "brmr-serve.service": { type: "notify", exposure: 2.5 },
  "brmr-attach@.service": { type: "notify", exposure: 4 },
  "brmr-metrics.service": { type: "oneshot", exposure: 2.5 },
};

/** Copies a unit to `dir`, for a machine on which what it starts is not installed. */
async function copyUnit(name: string, dir: string): Promise<string> {
  const text = await Deno.readTextFile(new URL(`systemd/${name}`, EXAMPLES));
  await Deno.writeTextFile(`${dir}/${name}`, text.replaceAll("/usr/local/bin/brmr", Deno.execPath()));
  return text;
}

async function expectAccepted(path: string): Promise<void> {
  const verified = await runCommand("systemd-analyze", ["verify", path]);
  assert.deepEqual([verified.code, verified.stdout + verified.stderr], [0, ""], path);
}

Deno.test("systemd accepts the unit files, and finds them closed", async () => {
  await requireTools(["systemd-analyze"]);
  const dir = await Deno.makeTempDir();
  try {
    for (const [name, { type, exposure }] of Object.entries(SERVICES)) {
      assert.match(await copyUnit(name, dir), new RegExp(`^Type=${type}$`, "m"));
      await expectAccepted(`${dir}/${name.replace("@", "@vol1")}`);
      const args = ["security", "--offline=true", "--no-pager", `--threshold=${exposure * 10}`, `${dir}/${name}`];
      const judged = await runCommand("systemd-analyze", args);
      assert.equal(judged.code, 0, `${name}: ${judged.stdout.split("\n").slice(-3).join(" ")}${judged.stderr}`);
    }
    await copyUnit("brmr-metrics.timer", dir);
    await expectAccepted(`${dir}/brmr-metrics.timer`); // with the service that it starts, which lies beside it
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});

Deno.test("the helper of the udev rule tells the pool of a device, and of no other", async () => {
  const dir = await Deno.makeTempDir();
  const helper = fileURLToPath(new URL("udev/pool-of-device", EXAMPLES));
  const ask = async (name: string) => {
    const { code, stdout } = await runCommand(helper, [name], { BRMR_RUNTIME_DIR: dir });
    return [code, stdout];
  };
  try {
    assert.deepEqual(await ask("nbd0"), [1, ""], "nothing is attached");
    const state = (poolName: string, device: string | null) =>
      writeAttachState(dir, {
        version: 1,
        poolName,
        poolUuid: crypto.randomUUID(),
        pid: 7,
        device,
        uris: device === null ? [] : [device, "nbd+unix:///x?socket=/dev/nbd9"],
      });
    state("data.base-1", "/dev/nbd1");
    state("web", "/dev/ublkb0");
    state("socket", null);
    assert.deepEqual(await ask("nbd1"), [0, "data.base-1\n"]);
    assert.deepEqual(await ask("ublkb0"), [0, "web\n"]);
    for (const name of ["nbd0", "nbd10", "nbd", "ublkb", "nbd9", "sda"]) {
      assert.deepEqual(await ask(name), [1, ""], name);
    }
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});
