import assert from "node:assert/strict";
import { formatLeg } from "../../lib/store/leg_device.ts";
import { legOptions } from "../unit/store/store_fixture.ts";
import { holder, tryOpen, until } from "./holder.ts";

Deno.test("a leg that another process has is refused, until that process is gone", async () => {
  const directory = Deno.makeTempDirSync({ prefix: "brmr_lock_" });
  try {
    const options = legOptions(`${directory}/a.img`);
    formatLeg(options);
    const child = await holder(options.path);
    try {
      assert.equal(tryOpen(options.path), "in-use");
      assert.throws(() => formatLeg({ ...options, force: true }), /in use by another process/);
    } finally {
      child.kill("SIGKILL");
      await child.status;
    }
    await until("the lock is free", () => tryOpen(options.path) === "opened");
  } finally {
    Deno.removeSync(directory, { recursive: true });
  }
});
