/** TCP and RDMA behind one transport keep the contract, whichever of them a connection takes. */

import assert from "node:assert/strict";
import { SlabBufferPool } from "../../../lib/io/slab_buffer_pool.ts";
import { RdmaTransport } from "../../../lib/transport/rdma/rdma_transport.ts";
import { TcpTransport } from "../../../lib/transport/tcp_transport.ts";
import { TransportChoice, type TransportPolicy } from "../../../lib/transport/transport_choice.ts";
import { CONFORMANCE_TESTS, registerConformance } from "./conformance.ts";
import { connect } from "./conformance_steps.ts";
import { checkClean, type Harness, type HarnessOptions, makeSides } from "./harness.ts";
import { MemoryFabric } from "./memory_links.ts";
import { MemoryStreamNetwork } from "./memory_stream.ts";

// libc is opened when first needed and stays open; here, so that no test is blamed for it.
new SlabBufferPool({ totalBytes: 1 << 20 });

const LANDING_BYTES = 12 << 20;

interface ChoiceHarness extends Harness {
  readonly choices: readonly TransportChoice[];
  /** The clock. Attempts to connect by RDMA depend on it. */
  readonly clock: { nowMs: number };
}

function choiceHarness(options: HarnessOptions, anyAddress: string, policy: TransportPolicy = "auto"): ChoiceHarness {
  const fabric = new MemoryFabric();
  const streams = new MemoryStreamNetwork();
  const clock = { nowMs: 1 };
  const choices: TransportChoice[] = [];
  const inner: { closeAll(): void; connectionCount: number }[] = [];
  const sides = makeSides((pool, handler) => {
    const lending = pool as SlabBufferPool;
    const bytes = new Uint8Array(Deno.UnsafePointerView.getArrayBuffer(
      Deno.UnsafePointer.create(BigInt(lending.baseAddress))!,
      lending.totalBytes,
    ));
    const choice = new TransportChoice(policy, handler, clock);
    const tcp = new TcpTransport(streams, pool, choice.tcpHandler, { ...options, report: () => {} });
    const network = fabric.network(lending, () => bytes);
    const rdma = new RdmaTransport(network, lending, choice.rdmaHandler, clock, {
      ...options,
      landingBytes: LANDING_BYTES,
      report: () => {},
    });
    choice.attach(tcp, rdma);
    choices.push(choice);
    inner.push(tcp, rdma);
    return choice;
  }, () => new SlabBufferPool({ totalBytes: 32 << 20 }));

  function until(condition: () => boolean): void {
    for (let idle = 0; !condition();) {
      for (const side of sides) side.transport.flushSends();
      if (condition()) return;
      const moved = [fabric.step(), streams.step()];
      idle = moved.includes(true) ? 0 : idle + 1;
      assert.ok(idle < 4, "The condition holds before nothing moves any more");
    }
  }
  return {
    sides,
    choices,
    clock,
    anyAddress,
    deadAddress: "memory:1",
    until,
    damageNext: null,
    close(): void {
      for (const transport of inner) transport.closeAll();
      until(() => inner.every((transport) => transport.connectionCount === 0));
      checkClean(sides, LANDING_BYTES);
    },
  };
}

registerConformance(
  "a choice that takes RDMA",
  CONFORMANCE_TESTS,
  (options) => choiceHarness(options, "rdma://memory:0"),
);
registerConformance(
  "a choice that falls back to TCP",
  CONFORMANCE_TESTS,
  (options) => choiceHarness(options, "memory:0"),
);

Deno.test("an address is tried by RDMA again after a while, not at once", () => {
  const harness = choiceHarness({}, "memory:0");
  const [a, b] = harness.sides;
  const { boundAddress } = b.transport.listen("memory:0");
  const isRdma = (connection: number) => harness.choices[0].describe(connection) !== null;
  assert.equal(isRdma(connect(harness, boundAddress).ca), false);
  b.transport.listen(`rdma://${boundAddress}`);
  assert.equal(isRdma(connect(harness, boundAddress).ca), false, "RDMA failed there a moment ago");
  harness.clock.nowMs += 60_000;
  assert.equal(isRdma(connect(harness, boundAddress).ca), true);
  assert.equal(isRdma(connect(harness, `tcp://${boundAddress}`).ca), false, "An address that says TCP gets it");
  assert.equal(a.handler.connected.length, 4);
  harness.close();
});

Deno.test("a node that was away is tried by RDMA as soon as it is back", () => {
  const harness = choiceHarness({}, "memory:0");
  const [a, b] = harness.sides;
  a.transport.connect("memory:5000");
  harness.until(() => a.handler.closed.length === 1);
  b.transport.listen("memory:5000");
  b.transport.listen("rdma://memory:5000");
  assert.notEqual(harness.choices[0].describe(connect(harness, "memory:5000").ca), null);
  harness.close();
});

Deno.test("the policy excludes either", () => {
  for (const [policy, wanted] of [["tcp", false], ["rdma", true]] as const) {
    const harness = choiceHarness({}, "memory:0", policy);
    const [, b] = harness.sides;
    const { boundAddress } = b.transport.listen("memory:0");
    b.transport.listen(`rdma://${boundAddress}`);
    const { ca } = connect(harness, boundAddress);
    assert.equal(harness.choices[0].describe(ca) !== null, wanted);
    harness.close();
  }
});
