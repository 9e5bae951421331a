/**
 * Storage nodes that live in memory: they keep legs as records, answer the control API, and do on demand what real ones
 * do on a bad day.
 *
 * @module
 */

import assert from "node:assert/strict";
import {
  type ControlClient,
  ControlError,
  type LegCreate,
  type LegProbe,
  type LegStatus,
  type NodeOperations,
} from "../../../lib/control/control_api.ts";
import { type DialNode, NodeConnections } from "../../../lib/control/node_connections.ts";
import type { LegSnapshot } from "../../../lib/core/snapshot.ts";
import type { SharedEpoch } from "../../../lib/disk_format/records.ts";

// deno-lint-ignore no-explicit-any -- each operation has its own shapes
type Handler = (request: any) => unknown;

/** One node. Tests set its `probes`, make it `fail`, look at `calls`. */
export class FakeNode {
  readonly address: string;
  readonly legs = new Map<string, LegStatus>();
  readonly probes = new Map<string, Partial<LegProbe>>();
  readonly calls: string[] = [];
  readonly handlers = new Map<string, Handler>();
  isDown = false;
  openConnections = 0;

  constructor(address: string) {
    this.address = address;
    this.handlers.set("node.info", () => ({
      nodeName: "node",
      version: "1.2.3",
      address,
      pid: 77,
      residentBytes: 160 << 20,
      bufferBytes: 64 << 20,
      legs: [...this.legs.values()],
      broken: [],
    }));
    this.handlers.set("leg.probe", ({ path }) => ({
      path,
      kind: "absent",
      sizeBytes: 0,
      logicalBlockBytes: 512,
      found: null,
      ...this.probes.get(path),
    }));
    this.handlers.set("leg.create", (request: LegCreate) => {
      this.legs.set(request.legUuid, { path: request.path, snapshot: snapshotOf(request) });
      return { legUuid: request.legUuid };
    });
    this.handlers.set("leg.delete", ({ legUuid }) => {
      if (!this.legs.delete(legUuid)) throw new ControlError("not-found", `No leg ${legUuid}`);
      return {};
    });
    this.handlers.set("pool.status", ({ pool }) => {
      const legs = [...this.legs.values()].filter(({ snapshot }) =>
        snapshot.poolName === pool || snapshot.poolUuid === pool
      );
      if (legs.length === 0) throw new ControlError("not-found", `No pool ${pool}`);
      return { legs };
    });
    this.handlers.set("resync.set", () => ({ legs: this.legs.size }));
  }

  /** Makes `op` fail with `error` from now on. */
  fail(op: string, error: ControlError): void {
    this.handlers.set(op, () => {
      throw error;
    });
  }

  /** Puts a leg there as if it had been created long ago. */
  addLeg(snapshot: LegSnapshot, path = `/legs/${snapshot.legIndex}`): void {
    this.legs.set(snapshot.legUuid, { path, snapshot });
  }

  connect(): ControlClient<NodeOperations> {
    this.openConnections++;
    let isClosed = false;
    const close = () => {
      if (!isClosed) this.openConnections--;
      isClosed = true;
    };
    return {
      get isClosed() {
        return isClosed;
      },
      close,
      // deno-lint-ignore no-explicit-any -- as above
      request: async (op: string, request: any): Promise<any> => {
        await Promise.resolve();
        if (isClosed) throw new ControlError("unreachable", `The connection to ${this.address} is closed`);
        this.calls.push(op);
        const handler = this.handlers.get(op);
        if (handler === undefined) throw new ControlError("bad-request", `No operation ${op}`);
        try {
          return structuredClone(handler(request));
        } catch (error) {
          // As with a real one: the late answer would be taken for the next.
          if (error instanceof ControlError && error.code === "timeout") close();
          throw error;
        }
      },
    };
  }
}

/** Several fake nodes, and the way to dial them. */
export class FakeCluster {
  readonly nodes: FakeNode[];
  readonly dialled: string[] = [];

  constructor(...addresses: string[]) {
    this.nodes = addresses.map((address) => new FakeNode(address));
  }

  readonly dial: DialNode = async (address) => {
    await Promise.resolve();
    this.dialled.push(address);
    const node = this.nodes.find((candidate) => candidate.address === address);
    if (node === undefined || node.isDown) throw new ControlError("unreachable", `${address} cannot be reached`);
    return node.connect();
  };

  /** Runs `work` with connections, and checks that none is left open. */
  async with<T>(work: (nodes: NodeConnections) => Promise<T>): Promise<T> {
    const nodes = new NodeConnections(this.dial);
    try {
      return await work(nodes);
    } finally {
      await nodes.close();
      assert.equal(this.nodes.reduce((sum, node) => sum + node.openConnections, 0), 0, "Connections left open");
    }
  }
}

/** UUIDs that tests can read: "00000007-0000-4000-8000-000000000000". */
export function testUuid(n: number): string {
  return `${n.toString(16).padStart(8, "0")}-0000-4000-8000-000000000000`;
}

/** A record of a pool with a leg at each of `addresses`. */
export function testRecord(addresses: readonly string[], change: Partial<SharedEpoch> = {}): SharedEpoch {
  return {
    historyId: testUuid(900),
    historyNumber: 0,
    generation: 1,
    clientGeneration: 1,
    epoch: 1,
    inSyncMask: (1 << addresses.length) - 1,
    minInSync: 1,
    ioTimeoutMs: 30_000,
    legs: addresses.map((address, index) => ({
      uuid: testUuid(100 + index),
      address,
      mapIncarnation: 1,
      mapDefaultDirty: false,
      outSinceMs: 0,
      isDrained: false,
    })),
    ...change,
  };
}

/** A leg of pool vol1, 1 GiB, in sync. */
export function testSnapshot(
  legIndex: number,
  shared: SharedEpoch,
  change: Partial<LegSnapshot> = {},
): LegSnapshot {
  return {
    poolUuid: testUuid(1),
    replacesUuid: "",
    poolName: "vol1",
    legUuid: shared.legs[legIndex]?.uuid ?? "",
    legIndex,
    sizeBytes: 1 << 30,
    chunkBytes: 4096,
    extentBytes: 1 << 20,
    logicalBlockBytes: 512,
    record: { shared, promisedGeneration: shared.generation, promisedTo: testUuid(50), isStable: false, bootId: "" },
    state: "in-sync",
    session: null,
    dirty: [],
    resync: null,
    lastResync: null,
    hotExtents: 0,
    hotExtentLimit: 2048,
    unflushedBytes: 0,
    counters: {
      reads: 0,
      writes: 0,
      flushes: 0,
      readBytes: 0,
      writtenBytes: 0,
      metadataWrites: 0,
      pullsServed: 0,
    },
    ...change,
  };
}

function snapshotOf(request: LegCreate): LegSnapshot {
  const { poolUuid, poolName, legUuid, legIndex, sizeBytes, chunkBytes, logicalBlockBytes, shared } = request;
  return testSnapshot(legIndex, shared, { poolUuid, poolName, legUuid, sizeBytes, chunkBytes, logicalBlockBytes });
}
