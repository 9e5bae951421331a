/**
 * Runs in a guest: the list of conformance tests that every transport passes, on an RDMA device, and what only a device
 * can show. `deno test` with the guest's address in GUEST_ADDRESS.
 *
 * @module
 */

import assert from "node:assert/strict";
import { hasFastPointerCalls } from "../../../ffi/libffi/bound_call.ts";
import { rdmaCm } from "../../../ffi/rdmacm/library.ts";
import { rdmaDeviceNames } from "../../../ffi/verbs/device.ts";
import { SlabBufferPool } from "../../../lib/io/slab_buffer_pool.ts";
import { UringReactor } from "../../../lib/io/uring_reactor.ts";
import { CloseReason } from "../../../lib/transport/close_reason.ts";
import { RdmaTransport } from "../../../lib/transport/rdma/rdma_transport.ts";
import { VerbsNetwork } from "../../../lib/transport/rdma/verbs_network.ts";
import { CONFORMANCE_TESTS, registerConformance } from "../../unit/transport/conformance.ts";
import { tryConnect } from "../../unit/transport/conformance_steps.ts";
import { checkClean, type Harness, type HarnessOptions, makeSides } from "../../unit/transport/harness.ts";
import { turnUntil } from "../../unit/transport/uring_harness.ts";

const LANDING_BYTES = 12 << 20;
/** Generous: a guest without hardware support is ten times slower. */
const address = Deno.env.get("GUEST_ADDRESS") ?? "10.77.0.1";

// Libraries are opened when first needed and stay open; here, so that no test is blamed for it.
rdmaDeviceNames();
rdmaCm();
hasFastPointerCalls();
const reactor = UringReactor.create({ entries: 256, completionEntries: 1024 });

interface RdmaHarness extends Harness {
  readonly transports: readonly RdmaTransport[];
}

function rdmaHarness(options: HarnessOptions): RdmaHarness {
  const transports: RdmaTransport[] = [];
  const networks: VerbsNetwork[] = [];
  const sides = makeSides((pool, handler) => {
    const lending = pool as SlabBufferPool;
    const network = new VerbsNetwork(reactor, lending, () => {});
    networks.push(network);
    const transport = new RdmaTransport(network, lending, handler, reactor, {
      ...options,
      landingBytes: LANDING_BYTES,
      report: () => {},
    });
    transports.push(transport);
    return transport;
  }, () => new SlabBufferPool({ totalBytes: 32 << 20 }));

  const until = (condition: () => boolean) => turnUntil(reactor, sides, condition);
  return {
    sides,
    transports,
    anyAddress: `${address}:0`,
    deadAddress: `${address}:1`,
    until,
    damageNext: null,
    close(): void {
      for (const transport of transports) transport.closeAll();
      until(() => transports.every((transport) => transport.connectionCount === 0));
      for (const network of networks) network.close();
      until(() => networks.every((network) => network.isClosed));
      checkClean(sides, LANDING_BYTES);
    },
  };
}

registerConformance("rdma", CONFORMANCE_TESTS, rdmaHarness);

/** Open descriptors, and what the kernel counts of RDMA objects: pd, cq, qp, cm_id, mr, ctx of each device. */
function held(): string {
  const run = (command: string, ...args: string[]) => {
    const { stdout, success } = new Deno.Command(command, { args }).outputSync();
    assert.ok(success, command);
    return new TextDecoder().decode(stdout).trim();
  };
  return `${run("ls", `/proc/${Deno.pid}/fd`).split("\n").length} ${run("rdma", "resource", "show")}`;
}

/** Memory in use, in bytes, once what nobody refers to is gone, where that can be asked for. */
interface UsedMemory {
  readonly heap: number;
  /** Of array buffers. */
  readonly buffers: number;
  /** Resident outside both: of the runtime, of libraries. */
  readonly other: number;
}

function usedMemory(): UsedMemory {
  // What one collection has found to be unused is only given back by the next one.
  for (let i = 0; i < 3; i++) (globalThis as { gc?: () => void }).gc?.();
  const { rss, heapTotal, heapUsed, external } = Deno.memoryUsage();
  return { heap: heapUsed, buffers: external, other: rss - heapTotal - external };
}

Deno.test("rdma: connections that come and go leave nothing behind", () => {
  const rounds = Number(Deno.env.get("ROUNDS") ?? "30");
  const harness = rdmaHarness({});
  const [a, b] = harness.sides;
  const { boundAddress } = b.transport.listen(harness.anyAddress);
  let before = "";
  let settled: UsedMemory = { heap: 0, buffers: 0, other: 0 };
  let failedCount = 0;
  for (let round = 0; round < rounds;) {
    const { ca, reason } = tryConnect(harness, boundAddress);
    if (reason !== null) {
      // On a busy machine an attempt may take longer than it is given.
      assert.equal(reason, CloseReason.TIMED_OUT);
      assert.ok(++failedCount <= 10 + rounds / 100, `${failedCount} of ${round} attempts timed out`);
      continue;
    }
    if (round === 0) assert.match(harness.transports[0].describe(ca)!.device, /\w/);
    a.transport.close(ca);
    harness.until(() => harness.transports.every((transport) => transport.connectionCount === 0));
    if (++round === 20) before = held();
    // Everything has been there at one time by then.
    if (round === Math.max(20, Math.floor(rounds / 5))) settled = usedMemory();
  }
  assert.equal(held(), before, "Descriptors and RDMA objects are given back");
  const used = usedMemory();
  const expectLessGrown = (what: keyof UsedMemory, limitBytes: number) => {
    const grownBytes = used[what] - settled[what];
    assert.ok(grownBytes < limitBytes, `${what}: ${grownBytes} bytes in ${rounds} connections`);
  };
  // What the test notes of each connection is in the heap.
  expectLessGrown("heap", (4 << 20) + 300 * rounds);
  // Without collections on demand there is garbage in these; see rdma_connects_test.ts.
  const isCollected = "gc" in globalThis;
  expectLessGrown("buffers", isCollected ? 256 << 10 : 32 << 20);
  expectLessGrown("other", isCollected ? 8 << 20 : 32 << 20);
  assert.equal(a.handler.closed.length, rounds + failedCount);
  assert.equal(b.handler.closed.length, b.handler.accepted.length);
  harness.close();
});
