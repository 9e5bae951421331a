/**
 * The unit files among the examples, started by systemd: two storage nodes and an attach, in a guest where systemd is process 1 of
 * a PID namespace. Needs systemd on this machine. Takes some minutes.
 */

import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { Bed } from "../bed/bed.ts";
import { expectVerified, startFioVerify } from "../bed/fio.ts";
import type { Guest } from "../bed/guest.ts";
import { expectOutput } from "../bed/host_command.ts";

const ROOT = fileURLToPath(new URL("../../../", import.meta.url));
const UNITS = `${ROOT}examples/systemd`;
/** Starting systemd, or a unit whose executable unpacks itself, takes a minute on a busy machine. */
const SLOW_MS = 400_000;

/** One guest with systemd in it. */
class SystemdGuest {
  readonly #guest: Guest;

  constructor(guest: Guest) {
    this.#guest = guest;
  }

  /** Installs the executable and the units, as README and unit files say, and starts systemd. */
  async start(executable: string): Promise<void> {
    await this.#guest.expect(`
      set -e
      cp ${executable} /usr/local/bin/brmr
      id brmr >/dev/null 2>&1 || useradd --system brmr
      mkdir -p /etc/brmr /srv/legs
      chown brmr /srv/legs
      units=/etc/systemd/system
      cp ${UNITS}/*.service $units
      # A second node on one machine.
      sed 's/brmr-serve/brmr-serve-b/; s,/serve.env,/serve-b.env,; s,/var/lib/brmr,&-b,; s/^StateDirectory=.*/&-b/; s/^CacheDirectory=.*/&-b/' \
        ${UNITS}/brmr-serve.service >$units/brmr-serve-b.service
      echo 'BRMR_SERVE_OPTIONS=--listen tcp://127.0.0.1:7701' >/etc/brmr/serve.env
      echo 'BRMR_SERVE_OPTIONS=--listen tcp://127.0.0.1:7702' >/etc/brmr/serve-b.env
      echo 'BRMR_NODES=127.0.0.1:7701,127.0.0.1:7702' >/etc/brmr/attach.env
      echo 'BRMR_ATTACH_OPTIONS=--device auto --start-timeout 100s' >>/etc/brmr/attach.env
      for unit in brmr-serve brmr-serve-b; do
        mkdir $units/$unit.service.d
        printf '[Service]\\nReadWritePaths=/srv/legs\\n' >$units/$unit.service.d/legs.conf
      done
      # The clock of an emulated processor is the machine's: starting may take longer than a unit may take there.
      mkdir $units/brmr-attach@.service.d
      for directory in $units/brmr-*.service.d; do printf '[Service]\\nTimeoutStartSec=600\\n' >$directory/slow.conf; done`);
    await this.#guest.spawn(
      "exec unshare --pid --fork --mount-proc --propagation unchanged env container=guest " +
        "/usr/lib/systemd/systemd --system --unit=basic.target",
      "systemd",
    );
    await this.#guest.expect(
      `for ((i = 0; i < 1000; i++)); do
        pid=$(pgrep -o -x systemd) && nsenter -t $pid -p -m systemctl is-system-running --wait && exit
        sleep 0.3
      done
      exit 1`,
      SLOW_MS,
    );
  }

  /** Runs a command where systemd is. */
  run(command: string) {
    return this.#guest.run(`exec nsenter -t $(pgrep -o -x systemd) -p -m ${command}`, SLOW_MS);
  }

  /** Runs a command that must end with 0; returns its stdout. */
  async expect(command: string): Promise<string> {
    const { status, stdout, stderr } = await this.run(command);
    assert.equal(status, 0, `${command}: ${stdout}${stderr}`);
    return stdout.trim();
  }

  /** A command of brmr's, by an operator. */
  async brmr(args: string, statuses = [0]): Promise<string> {
    const environment = "BRMR_RUNTIME_DIR=/run/brmr BRMR_CACHE_DIR=/var/cache/brmr-serve BRMR_NODES=127.0.0.1:7701";
    const { status, stdout, stderr } = await this.run(`env ${environment} /usr/local/bin/brmr ${args}`);
    assert.ok(statuses.includes(status), `brmr ${args} ended with ${status}: ${stderr}`);
    return stdout;
  }

  /** A property of a unit, as systemctl shows it. */
  show(unit: string, property: string): Promise<string> {
    return this.expect(`systemctl show --value --property ${property} ${unit}`);
  }

  /** Waits until a property has a value. */
  async waitFor(unit: string, property: string, isIt: (value: string) => boolean): Promise<void> {
    const deadline = performance.now() + SLOW_MS;
    for (;;) {
      const value = await this.show(unit, property);
      if (isIt(value)) return;
      assert.ok(performance.now() < deadline, `${property} of ${unit} stays ${value}`);
    }
  }

  /** Waits until both legs are in sync. */
  async waitInSync(): Promise<void> {
    const deadline = performance.now() + SLOW_MS;
    for (;;) {
      const status = JSON.parse(await this.brmr("sync-status vol1 --json", [0, 5]));
      const states = status.legs.map((leg: { state: string }) => leg.state);
      if (states.join() === "in-sync,in-sync") return;
      assert.ok(performance.now() < deadline, `The legs stay ${states}`);
    }
  }

  /** Kills the main process of a unit and waits until systemd has another one ready. */
  async killAndAwait(unit: string): Promise<void> {
    const before = await this.show(unit, "MainPID");
    await this.expect(`systemctl kill --kill-whom=main --signal=KILL ${unit}`);
    await this.waitFor(unit, "NRestarts", (count) => Number(count) >= 1);
    await this.waitFor(unit, "ActiveState", (state) => state === "active");
    assert.notEqual(await this.show(unit, "MainPID"), before);
  }
}

Deno.test("the unit files serve and attach a pool under systemd", async (t) => {
  const built = await Deno.makeTempDir({ prefix: "brmr-dist-" });
  try {
    const flags = ["--no-prompt", "--allow-run", "--allow-read", "--allow-write", "--allow-env"];
    await expectOutput(Deno.execPath(), ["run", ...flags, `${ROOT}cli/build/build.ts`, "--out", built]);
    await using bed = await Bed.open({ modules: ["ublk_drv", "nbd"], rdma: false, memoryMib: 3584 });
    const guest = bed.guest(1);
    const systemd = new SystemdGuest(guest);
    const step = async (name: string, body: () => Promise<void>) => {
      const passed = await t.step(name, body);
      if (!passed) console.error((await systemd.run("journalctl --no-pager -n 100")).stdout, await guest.console());
    };

    await step("systemd runs", () => systemd.start(`${built}/brmr`));

    await step("the nodes are up when they say so, as users with no rights", async () => {
      await systemd.expect("systemctl start brmr-serve brmr-serve-b");
      for (const unit of ["brmr-serve", "brmr-serve-b"]) {
        assert.equal(await systemd.show(unit, "ActiveState"), "active");
        assert.match(await systemd.show(unit, "StatusText"), /^Serving 0 legs on 127.0.0.1:770[12]$/);
        const status = await systemd.expect(`cat /proc/${await systemd.show(unit, "MainPID")}/status`);
        assert.match(status, /^CapEff:\s0+$/m);
        assert.doesNotMatch(status, /^Uid:\s0\s/m);
      }
      await systemd.brmr(
        "pool create vol1 --size 256M --leg 127.0.0.1:7701:/srv/legs/a.img --leg 127.0.0.1:7702:/srv/legs/b.img",
      );
    });

    await step("the attach is up when its device is there", async () => {
      await systemd.expect("systemctl start brmr-attach@vol1");
      assert.match(await systemd.show("brmr-attach@vol1", "StatusText"), /\/dev\/ublkb0/);
      assert.equal((await guest.expect("readlink -f /dev/brmr/vol1")).trim(), "/dev/ublkb0");
    });

    await step("a node and the attach are killed under fio, and systemd brings them back; no error", async () => {
      const fio = await startFioVerify(guest, "/dev/ublkb0", 12);
      await systemd.killAndAwait("brmr-serve-b");
      await systemd.killAndAwait("brmr-attach@vol1");
      assert.equal((await guest.expect("readlink -f /dev/brmr/vol1")).trim(), "/dev/ublkb0");
      await expectVerified(fio);
      await systemd.waitInSync();
    });

    await step("a stop takes the device away and detaches cleanly; a start has it again", async () => {
      await systemd.expect("systemctl stop brmr-attach@vol1");
      assert.equal(await systemd.show("brmr-attach@vol1", "Result"), "success");
      await guest.expect("[ ! -e /dev/brmr/vol1 ]");
      await systemd.expect("systemctl start brmr-attach@vol1");
      await guest.expect("[ -b /dev/brmr/vol1 ]");
      await systemd.expect("systemctl stop brmr-attach@vol1");
    });

    await step("wrong options fail the unit at once, and it is not tried again", async () => {
      await systemd.expect("systemctl stop brmr-serve-b");
      await guest.expect("echo BRMR_SERVE_OPTIONS=--no-such-option >/etc/brmr/serve-b.env");
      assert.notEqual((await systemd.run("systemctl start brmr-serve-b")).status, 0);
      assert.equal(await systemd.show("brmr-serve-b", "ActiveState"), "failed");
      assert.equal(await systemd.show("brmr-serve-b", "ExecMainStatus"), "2");
    });

    await step("both nodes end cleanly", async () => {
      await systemd.expect("systemctl stop brmr-serve");
      assert.equal(await systemd.show("brmr-serve", "Result"), "success");
    });
  } finally {
    await Deno.remove(built, { recursive: true });
  }
});
