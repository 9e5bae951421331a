/** Where there is no RDMA, who asks for it by name is told what is missing, and everybody else goes on over TCP. */

import assert from "node:assert/strict";
import { type Cluster, type CommandResult, withCluster } from "./cluster.ts";
import { NbdSocket } from "./nbd_socket.ts";

/** Where the kernel lists RDMA devices. */
const DEVICES = "/sys/class/infiniband";

/** `brmr ARGUMENTS` is refused with what is missing, and nothing else is said. */
function expectRefused({ code, stdout, stderr }: CommandResult, missing: RegExp): void {
  assert.equal(code, 4, stderr);
  assert.equal(stdout, "");
  assert.match(stderr, missing);
  assert.equal(stderr.trim().split("\n").length, 1, stderr);
}

/** Both daemons are asked for RDMA, then the pool is used as if there were none. */
async function withoutRdma(cluster: Cluster, env: Record<string, string>, missing: RegExp): Promise<void> {
  const [address] = cluster.addresses;
  const listen = ["--listen", `tcp://${address}`, "--listen", `rdma://${address}`];
  await cluster.stopNode(0, "SIGTERM");
  expectRefused(await cluster.brmr(["serve", "--state", `${cluster.directory}/state0`, ...listen], env), missing);
  await cluster.startNode(0); // on the same state and port
  const attach = ["attach", "vol1", "--node", address, "--nbd", `${cluster.directory}/vol1.sock`];
  expectRefused(await cluster.brmr([...attach, "--transport", "rdma"], env), missing);
  for (const transport of ["auto", "tcp"]) {
    await cluster.attach(["--transport", transport]);
    const { client } = await cluster.status();
    const wanted = transport === "tcp" ? "tcp" : "shared-memory";
    assert.deepEqual(client.paths, [{ legIndex: 0, transport: wanted }, { legIndex: 1, transport: wanted }]);
    const socket = await NbdSocket.connect(cluster.uri);
    const data = new Uint8Array(16384).fill(transport.length);
    await socket.write(8192, data);
    assert.deepEqual(await socket.read(8192, data.length), data);
    await socket.close();
    assert.doesNotMatch(cluster.client.log, /RDMA/);
    assert.equal(await cluster.detach(), 0);
  }
}

Deno.test("without rdma-core", async () => {
  const directory = await Deno.makeTempDir({ prefix: "brmr-" });
  try {
    // Found before the machine's own, if it has one, and of no use.
    await Deno.writeTextFile(`${directory}/libibverbs.so.1`, "");
    const env = { LD_LIBRARY_PATH: directory };
    await withCluster({ size: "64M", environment: { serve: env, attach: env } }, async (cluster) => {
      assert.equal(await cluster.detach(), 0);
      await withoutRdma(
        cluster,
        env,
        /^error: There is no RDMA here: libibverbs\.so\.1 cannot be opened \(.*\)\. Install rdma-core \(Debian: libibverbs1 /,
      );
    });
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
});

Deno.test("without a device, with or without rdma-core; where there is one, listening at an address that is not its own", async () => {
  const devices = await Array.fromAsync(Deno.readDir(DEVICES)).catch(() => []);
  await withCluster({ size: "64M" }, async (cluster) => {
    assert.equal(await cluster.detach(), 0);
    if (devices.length === 0) return await withoutRdma(cluster, {}, /^error: There is no RDMA (device )?here[: (]/);
    const listen = ["--listen", "tcp://127.0.0.1:0", "--listen", "rdma://127.0.0.1:0"];
    const refused = await cluster.brmr(["serve", "--state", `${cluster.directory}/state9`, ...listen]);
    expectRefused(refused, /No RDMA device has this address/);
  });
});
