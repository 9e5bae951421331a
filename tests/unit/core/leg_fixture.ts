/** A leg whose disk and network are in the hands of a test. */

import { LegServer } from "../../../lib/core/leg_server.ts";
import type { LegServerOptions } from "../../../lib/core/leg_context.ts";
import { OutputKind } from "../../../lib/core/output.ts";
import { computeLayout } from "../../../lib/disk_format/layout.ts";
import type { SharedEpoch } from "../../../lib/disk_format/records.ts";
import { Message, MessageType } from "../../../lib/wire/message.ts";
import { sharedEpoch, UUID, uuidOf } from "./client_fixture.ts";

const SHAPE = { sizeBytes: 1 << 20, chunkBytes: 4096, extentBytes: 65536, hotExtentCount: 16 };

/** A record of its pool. */
export const recordOf = (changed: Partial<SharedEpoch> = {}) => sharedEpoch({ historyId: UUID, ...changed });

/** Leg 0 of three. What it asks for waits in the lists until the test answers. */
export class LegFixture {
  readonly core: LegServer;
  readonly flushes: number[] = [];
  readonly reads: number[] = [];
  readonly metadata: number[] = [];
  /** Frames sent, by connection and type. */
  readonly sent: { connection: number; type: number; requestId: number; status: number }[] = [];
  readonly closed: number[] = [];
  /** Names of what it told the operator. */
  readonly events: string[] = [];
  #slot = 0;

  constructor(changed: Partial<LegServerOptions> = {}) {
    const { epochOffset, intentOffset, mapOffset, dataOffset } = computeLayout(SHAPE);
    this.core = new LegServer({
      superblock: {
        ...SHAPE,
        ...{ poolUuid: UUID, poolName: "vol1", legUuid: uuidOf(0), legIndex: 0, logicalBlockBytes: 512, createdMs: 0 },
        ...{ epochOffset, intentOffset, mapOffset, dataOffset },
      },
      record: { shared: recordOf(), promisedGeneration: 5, promisedTo: UUID, isStable: true, bootId: "boot" },
      intentSlots: new Uint32Array(SHAPE.hotExtentCount).fill(0xffffffff),
      intentsDamaged: false,
      mapPages: [],
      metadataSequence: 1,
      instance: UUID,
      bootId: "boot",
      nowMs: 0,
      ...changed,
    });
  }

  /** A client greets. */
  greet(connection: number): void {
    const hello = { protocol: 1, features: 0, role: "client" as const, poolUuid: UUID, legIndex: 0 };
    this.core.handleHello(connection, 0, hello);
    this.#drain();
  }

  /** A frame arrives. */
  receive(connection: number, type: number, fields: Partial<Message> = {}, body: unknown = null): void {
    this.core.handleMessage(connection, Object.assign(new Message().reset(type), fields), -1, body);
    this.#drain();
  }

  /** A client claims, with takeover. */
  claim(connection: number, generation: number, clientUuid = UUID): void {
    const claim = { generation, clientUuid, clientName: `client of ${connection}`, takeover: true };
    this.receive(connection, MessageType.CLAIM, { requestId: generation }, claim);
  }

  /** The connection is gone. */
  close(connection: number): void {
    this.core.handleConnectionClosed(connection);
    this.#drain();
  }

  /** Time passes. */
  tick(nowMs: number): void {
    this.core.handleTick(nowMs);
    this.#drain();
  }

  /** The oldest flush ends. */
  endFlush(result = 0): void {
    this.core.handleDiskDone(this.flushes.shift()!, result, -1);
    this.#drain();
  }

  /** The oldest read ends. */
  endRead(result = 0): void {
    this.core.handleDiskDone(this.reads.shift()!, result, this.#slot++);
    this.#drain();
  }

  /** The oldest metadata write ends. */
  endMetadata(result = 0): void {
    this.core.handleMetadataDone(this.metadata.shift()!, result);
    this.#drain();
  }

  /** All metadata writes end. */
  settleMetadata(): void {
    while (this.metadata.length > 0) this.endMetadata();
  }

  /** All that the disk was asked for ends, and what follows from it. */
  settle(): void {
    while (this.flushes.length + this.metadata.length + this.reads.length > 0) {
      if (this.flushes.length > 0) this.endFlush();
      else if (this.metadata.length > 0) this.endMetadata();
      else this.endRead();
    }
  }

  /** A client greets, claims and has the leg in the set that it serves. */
  serve(connection: number, generation = 6): void {
    this.greet(connection);
    this.claim(connection, generation);
    this.settle();
    const shared = recordOf({ generation, epoch: 8 });
    this.receive(connection, MessageType.EPOCH, { requestId: 1 }, { shared, droppedMask: 0, suspectExtents: [] });
    this.settle();
  }

  /** How many frames of this type were sent on the connection. */
  count(connection: number, type: number): number {
    return this.sent.filter((each) => each.connection === connection && each.type === type).length;
  }

  #drain(): void {
    for (let output = this.core.poll(); output !== null; output = this.core.poll()) {
      if (output.kind === OutputKind.DISK_FLUSH) this.flushes.push(output.token);
      else if (output.kind === OutputKind.DISK_READ) this.reads.push(output.token);
      else if (output.kind === OutputKind.METADATA_WRITE) this.metadata.push(output.token);
      else if (output.kind === OutputKind.EVENT) this.events.push(output.body.name);
      else if (output.kind === OutputKind.CLOSE) this.closed.push(output.connection);
      else if (output.kind === OutputKind.SEND) {
        const { type, requestId, status } = output.message;
        this.sent.push({ connection: output.connection, type, requestId, status });
      }
    }
  }
}
