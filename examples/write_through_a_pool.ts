/**
 * Creates a pool on two storage nodes and writes through it, as an application would: over NBD.
 *
 * Start two nodes and, once the pool is there, attach it; this script does the rest:
 *
 * ```sh
 * brmr serve --state /tmp/a --listen tcp://127.0.0.1:7701 &
 * brmr serve --state /tmp/b --listen tcp://127.0.0.1:7702 &
 * deno run --allow-net --allow-read=/tmp --allow-write=/tmp examples/write_through_a_pool.ts create
 * brmr attach example --node 127.0.0.1:7701 --nbd /tmp/example.sock &
 * deno run --allow-net --allow-read=/tmp --allow-write=/tmp examples/write_through_a_pool.ts write
 * ```
 */

import { connectNode, createPool, NbdClient, NodeConnections } from "../mod.ts";

const [what, addressA = "127.0.0.1:7701", addressB = "127.0.0.1:7702", directory = "/tmp"] = Deno.args;

if (what === "create") {
  const nodes = new NodeConnections((address) => connectNode(address, { timeoutMs: 5000 }));
  const pool = await createPool({
    poolName: "example",
    sizeBytes: 64 * 1024 * 1024,
    legs: [
      { address: addressA, path: `${directory}/example-a.img` },
      { address: addressB, path: `${directory}/example-b.img` },
    ],
  }, nodes);
  await nodes.close();
  console.log(`created ${pool.poolName}, ${pool.sizeBytes} bytes on ${pool.legs.length} legs`);
} else if (what === "write") {
  const disk = await NbdClient.connect({ path: `${directory}/example.sock` });
  const text = new TextEncoder().encode("written to both nodes before this line was printed");
  const block = new Uint8Array(4096);
  block.set(text);
  await disk.write(0, block);
  await disk.flush();
  const read = await disk.read(0, 4096);
  console.log(new TextDecoder().decode(read.subarray(0, text.length)));
  await disk.close();
} else {
  console.error('say "create" or "write"');
  Deno.exit(2);
}
