/**
 * The stage for the TCP transport on real sockets: two transports on one io_uring reactor, over loopback.
 *
 * @module
 */

import assert from "node:assert/strict";
import { SlabBufferPool } from "../../../lib/io/slab_buffer_pool.ts";
import { UringReactor } from "../../../lib/io/uring_reactor.ts";
import { TcpTransport } from "../../../lib/transport/tcp_transport.ts";
import { UringNetwork } from "../../../lib/transport/uring_network.ts";
import { checkClean, type Harness, type HarnessOptions, makeSides, POOL_BYTES } from "./harness.ts";

/** How long a condition may take before it is held never to come. Generous: machines can be busy. */
const LIMIT_MS = 60_000;

/** Runs `reactor` and sends what the sides have to send, until `condition` holds. Throws when it does not in time. */
export function turnUntil(reactor: UringReactor, sides: Harness["sides"], condition: () => boolean): void {
  const deadlineMs = reactor.clockMs() + LIMIT_MS;
  while (!condition()) {
    for (const side of sides) side.transport.flushSends();
    if (condition()) return;
    reactor.turn(deadlineMs);
    assert.ok(reactor.clockMs() < deadlineMs, "The condition holds in time");
  }
}

// libc is opened when first needed and stays open; here, so that no test is blamed for it.
UringReactor.create({ entries: 8, completionEntries: 256 }).dispose();

export function uringHarness(options: HarnessOptions): Harness {
  const reactor = UringReactor.create({ entries: 256, completionEntries: 256 });
  const network = new UringNetwork(reactor);
  const transports: TcpTransport[] = [];
  const sides = makeSides((pool, handler) => {
    const transport = new TcpTransport(network, pool, handler, { ...options, report: () => {} });
    transports.push(transport);
    return transport;
  }, () => new SlabBufferPool({ totalBytes: POOL_BYTES }));

  const until = (condition: () => boolean) => turnUntil(reactor, sides, condition);

  return {
    sides,
    anyAddress: "127.0.0.1:0",
    // Nobody may listen on port 1 but the superuser, and nobody does.
    deadAddress: "127.0.0.1:1",
    until,
    damageNext: null,
    close(): void {
      for (const transport of transports) transport.closeAll();
      until(() => transports.every((transport) => transport.connectionCount === 0) && reactor.inFlightCount === 0);
      reactor.dispose();
      checkClean(sides);
    },
  };
}
