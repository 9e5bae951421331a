/** A leg that leaves service: when its device is let go of, and that what waited in it is given back. */

import "../../ffi/libc_opened.ts";
import assert from "node:assert/strict";
import { LegServer } from "../../../lib/core/leg_server.ts";
import { computeLayout } from "../../../lib/disk_format/layout.ts";
import type { Superblock } from "../../../lib/disk_format/records.ts";
import type { Reactor } from "../../../lib/io/reactor.ts";
import { SlabBufferPool } from "../../../lib/io/slab_buffer_pool.ts";
import { LegDriver } from "../../../lib/node/leg_driver.ts";
import { StorageOperations } from "../../../lib/node/storage_operations.ts";
import { StorageWorker } from "../../../lib/node/storage_worker.ts";
import type { WorkerReport } from "../../../lib/node/worker_messages.ts";
import type { LegStore } from "../../../lib/store/leg_store.ts";
import type { Transport } from "../../../lib/transport/transport.ts";
import { encodeBody } from "../../../lib/wire/body_codec.ts";
import { Message, MessageType, PROTOCOL_VERSION } from "../../../lib/wire/message.ts";
import { OUR_DIALECT } from "../../../lib/wire/negotiate.ts";
import { sharedEpoch, UUID, uuidOf } from "../core/client_fixture.ts";

const SHAPE = { sizeBytes: 1 << 20, chunkBytes: 4096, extentBytes: 65536, hotExtentCount: 4 };

/** A node with leg 0, whose disk does what it is asked when the test says so, and a client that serves the pool with it. */
class Bench {
  readonly pool = new SlabBufferPool({ totalBytes: 8 << 20 });
  readonly reports: WorkerReport[] = [];
  readonly reactor = { nowMs: 1000 };
  readonly worker: StorageWorker;
  readonly operations: StorageOperations;
  readonly driver: LegDriver;
  readonly closing: number[] = [];
  /** What the disk has not done yet. */
  readonly #disk: (() => void)[] = [];
  isStoreClosed = false;
  flushCount = 0;

  constructor() {
    const report = (report: WorkerReport) => this.reports.push(report);
    this.worker = new StorageWorker(this.reactor as Reactor, this.pool, UUID, report);
    this.worker.transport = {
      sendBytes: () => true,
      send: () => true,
      close: (connection: number) => this.closing.push(connection),
      connect: () => assert.fail("a leg without a resync connects to nobody"),
      flushSends() {},
      resume() {},
    } as unknown as Transport;
    const reach = { tcp: true, rdma: false };
    const facts = { nodeName: "alpha", addresses: [], hasAllAddresses: true, reach };
    this.operations = new StorageOperations(this.worker, this.reactor as Reactor, facts, report);
    const { epochOffset, intentOffset, mapOffset, dataOffset } = computeLayout(SHAPE);
    const superblock = {
      ...SHAPE,
      ...{ poolUuid: UUID, poolName: "vol1", legUuid: uuidOf(0), legIndex: 0, logicalBlockBytes: 512, createdMs: 0 },
      ...{ epochOffset, intentOffset, mapOffset, dataOffset },
    } as Superblock;
    const shared = sharedEpoch({ historyId: UUID });
    const core = new LegServer({
      superblock,
      record: { shared, promisedGeneration: 5, promisedTo: UUID, isStable: true, bootId: "boot" },
      intentSlots: new Uint32Array(SHAPE.hotExtentCount).fill(0xffffffff),
      intentsDamaged: false,
      mapPages: [],
      metadataSequence: 1,
      instance: UUID,
      bootId: "boot",
      nowMs: this.reactor.nowMs,
    });
    this.driver = new LegDriver(this.worker, superblock, "/leg", core);
    const done = (operation: number) => this.#do(() => this.driver.onBlockDone(operation, 0));
    this.driver.attach({
      blocks: {
        write: done,
        flush: (operation: number) => {
          this.flushCount++;
          done(operation);
        },
      },
      metadata: { writeTwin: (token: number) => this.#do(() => this.driver.onMetadataDone(token, 0)) },
      close: () => {
        assert.equal(this.#disk.length, 0, "nothing is in flight");
        this.isStoreClosed = true;
      },
    } as unknown as LegStore);
    this.worker.addLeg(this.driver);
  }

  #do(step: () => void): void {
    assert.ok(!this.isStoreClosed, "a device that was let go of is asked for nothing");
    this.#disk.push(step);
  }

  /** The disk does all it was asked for, and turns end. */
  settle(): void {
    for (let step = this.#disk.shift(); step !== undefined; step = this.#disk.shift()) step();
    this.worker.afterTurn();
    this.operations.afterTurn();
    if (this.#disk.length > 0) this.settle();
  }

  /** A frame of the client on connection 0. */
  say(type: number, fields: Partial<Message>, body: unknown = null): void {
    const bytes = body === null ? new Uint8Array(fields.payloadLength ?? 0) : encodeBody(type, body);
    const message = Object.assign(new Message().reset(type), { ...fields, payloadLength: bytes.length });
    const slot = bytes.length === 0 ? -1 : this.worker.placePayload(0, message);
    if (slot >= 0) this.pool.bytes(slot).set(bytes);
    this.worker.onMessage(0, message, slot);
    this.settle();
  }

  /** A client that comes back by another path within `returnMs` has the leg in the set that it serves. */
  serve(returnMs: number): void {
    this.worker.onAccepted(0, 0, "client");
    const features = OUR_DIALECT.features;
    const place = { role: "client", poolUuid: UUID, legIndex: 0, senderUuid: UUID };
    this.say(MessageType.HELLO, {}, { protocol: PROTOCOL_VERSION, features, ...place });
    const claim = { generation: 6, clientUuid: UUID, clientName: "client", takeover: true, returnMs };
    this.say(MessageType.CLAIM, { requestId: 1 }, claim);
    const shared = sharedEpoch({ historyId: UUID, generation: 6, clientGeneration: 6, epoch: 8 });
    this.say(MessageType.EPOCH, { requestId: 2 }, { shared, droppedMask: 0, suspectExtents: [] });
    assert.equal(this.driver.core.snapshot().session?.clientName, "client");
  }

  write(extent: number): void {
    const place = { offset: extent * SHAPE.extentBytes, length: 4096, payloadLength: 4096 };
    this.say(MessageType.WRITE, { requestId: 10 + extent, sequence: 2 + extent, ...place });
  }

  get answer(): WorkerReport | undefined {
    return this.reports.find((report) => report.kind === "response");
  }
}

for (const returnMs of [0, 5000]) {
  Deno.test(`a leg that leaves service under a client that may return within ${returnMs} ms gives back what waits in it`, () => {
    const bench = new Bench();
    bench.serve(returnMs);
    for (let extent = 0; extent <= SHAPE.hotExtentCount; extent++) bench.write(extent);
    assert.equal(bench.pool.usedBytes, 4096, "the intent log has no room for the last write, which waits");
    const { flushCount } = bench;
    bench.operations.handle({ kind: "request", id: 7, op: "leg.close", request: { legUuid: uuidOf(0), force: true } });
    bench.settle();
    assert.deepEqual(bench.closing, [0]);
    assert.ok(!bench.isStoreClosed, "the end of the connection is yet to come");
    bench.worker.onClosed(0, 0);
    bench.settle();
    assert.deepEqual(bench.answer, { kind: "response", id: 7, result: {} });
    assert.ok(bench.isStoreClosed);
    assert.ok(bench.flushCount > flushCount, "what the client was told is done is on stable storage");
    assert.equal(bench.pool.usedBytes, 0, "nothing of it is left in memory");
  });
}
