/** What a worker's transport is made with follows from what its process was told. */

import assert from "node:assert/strict";
import { type RdmaLack, RdmaUnavailable } from "../../../ffi/verbs/library.ts";
import { SlabBufferPool } from "../../../lib/io/slab_buffer_pool.ts";
import { UringReactor } from "../../../lib/io/uring_reactor.ts";
import { makeTransport, openRdma } from "../../../lib/node/node_transport.ts";
import { TcpTransport } from "../../../lib/transport/tcp_transport.ts";
import type { PayloadCrcPolicy } from "../../../lib/transport/payload_crc.ts";
import { RecordingHandler } from "../transport/recording_handler.ts";

// libc is opened when first needed and stays open; here, so that no test is blamed for it.
UringReactor.create({ entries: 8, completionEntries: 256 }).dispose();

/** Whether payloads are summed over TCP, on a connection to itself. */
function sumsOverTcp(payloadCrc: PayloadCrcPolicy): boolean {
  const reactor = UringReactor.create({ entries: 64, completionEntries: 256 });
  const pool = new SlabBufferPool({ totalBytes: 4 << 20 });
  const handler = new RecordingHandler(pool);
  const transport = makeTransport({
    ...{ reactor, pool, handler, policy: "tcp", rdma: null, landingShare: 0, borrow: null, lendsMemory: false },
    ...{ payloadCrc, report: () => {} },
  });
  const until = (condition: () => boolean) => {
    const deadlineMs = reactor.clockMs() + 60_000;
    while (!condition()) {
      transport.flushSends();
      reactor.turn(deadlineMs);
      assert.ok(reactor.clockMs() < deadlineMs, "The condition holds in time");
    }
  };
  const { boundAddress } = transport.listen("127.0.0.1:0");
  const connection = transport.connect(boundAddress);
  until(() => handler.connected.includes(connection));
  assert.ok(transport instanceof TcpTransport);
  const sums = transport.sumsPayloads(connection);
  transport.closeAll();
  until(() => transport.connectionCount === 0 && reactor.inFlightCount === 0);
  reactor.dispose();
  return sums;
}

Deno.test("payloads are summed over TCP unless told never to", () => {
  assert.deepEqual((["auto", "always", "never"] as const).map(sumsOverTcp), [true, true, false]);
});

Deno.test("RDMA that is missing is an error where it was asked for by name; else TCP does, and what is broken is said", () => {
  const reactor = UringReactor.create({ entries: 8, completionEntries: 256 });
  const pool = new SlabBufferPool({ totalBytes: 1 << 20 });
  const lacks: RdmaLack[] = ["library", "device", "module", "failed"];
  const said: string[] = [];
  const report = ({ level, message }: { level: string; message: string }) => said.push(`${level}: ${message}`);
  for (const lack of lacks) {
    const missing = new RdmaUnavailable(lack, `The ${lack} is missing`);
    let openCount = 0;
    const open = () => {
      openCount++;
      throw missing;
    };
    const options = { reactor, pool, report };
    assert.equal(openRdma({ ...options, policy: "tcp", mustHaveRdma: false }, open), null);
    assert.equal(openCount, 0, "Who wants TCP does not even look");
    for (const policy of ["auto", "rdma"] as const) {
      assert.throws(() => openRdma({ ...options, policy, mustHaveRdma: true }, open), missing);
    }
    assert.deepEqual(said, []);
    assert.equal(openRdma({ ...options, policy: "auto", mustHaveRdma: false }, open), null);
    const isOrdinary = lack === "library" || lack === "device";
    assert.deepEqual(said.splice(0), isOrdinary ? [] : [`warning: RDMA is not used. The ${lack} is missing`]);
  }
  const bug = new TypeError("a bug");
  const open = () => {
    throw bug;
  };
  assert.throws(() => openRdma({ reactor, pool, report, policy: "auto", mustHaveRdma: false }, open), bug);
  reactor.dispose();
});
