/**
 * The transport of a data-plane worker: TCP always, RDMA beside it where it is wanted and to be had.
 *
 * @module
 */

import { rdmaDeviceNames } from "../../ffi/verbs/device.ts";
import { RdmaUnavailable } from "../../ffi/verbs/library.ts";
import type { CoreEvent } from "../core/output.ts";
import type { SlabBufferPool } from "../io/slab_buffer_pool.ts";
import type { UringReactor } from "../io/uring_reactor.ts";
import { RdmaTransport } from "../transport/rdma/rdma_transport.ts";
import { VerbsNetwork } from "../transport/rdma/verbs_network.ts";
import { TcpTransport } from "../transport/tcp_transport.ts";
import type { Transport, TransportHandler } from "../transport/transport.ts";
import { TransportChoice, type TransportPolicy } from "../transport/transport_choice.ts";
import { UringNetwork } from "../transport/uring_network.ts";

/** What a worker's transport is made of. */
export interface NodeTransportOptions {
  readonly reactor: UringReactor;
  readonly pool: SlabBufferPool;
  readonly handler: TransportHandler;
  readonly policy: TransportPolicy;
  /** Without RDMA on this machine it fails, whatever the policy. */
  readonly mustHaveRdma: boolean;
  /** What part of the pool peers may write to. */
  readonly landingShare: number;
  readonly maxConnections?: number;
  readonly report: (event: CoreEvent) => void;
}

/** Fewer bytes than this are no use: a connection takes 2 MiB at least. */
const LEAST_LANDING_BYTES = 4 << 20;

/** Makes it. Throws {@link RdmaUnavailable} when RDMA is demanded and missing; the message says what is. */
export function makeTransport(options: NodeTransportOptions): Transport {
  const { reactor, pool, handler, policy, maxConnections } = options;
  const report = (message: string) => options.report({ level: "warning", name: "connection-closed", message });
  const network = new UringNetwork(reactor);
  const links = policy === "tcp" ? null : openLinks(options, report);
  if (links === null) return new TcpTransport(network, pool, handler, { maxConnections, report });
  const choice = new TransportChoice(policy, handler, reactor);
  const landingBytes = Math.max(LEAST_LANDING_BYTES, Math.floor(pool.totalBytes * options.landingShare));
  const rdma = new RdmaTransport(links, pool, choice.rdmaHandler, reactor, { landingBytes, report });
  choice.attach(new TcpTransport(network, pool, choice.tcpHandler, { maxConnections, report }), rdma);
  return choice;
}

function openLinks(options: NodeTransportOptions, report: (text: string) => void): VerbsNetwork | null {
  try {
    const links = new VerbsNetwork(options.reactor, options.pool, report);
    options.report({ level: "info", name: "rdma", message: `RDMA over ${rdmaDeviceNames().join(", ")}` });
    return links;
  } catch (error) {
    if (!(error instanceof RdmaUnavailable) || options.mustHaveRdma) throw error;
    return null; // the ordinary case: a machine without RDMA goes on over TCP
  }
}
