/**
 * Frames as clients, peers and sources of a leg send them when they follow the protocol, with numbers that are likely to meet: for
 * fuzzing what a leg does with them, and with what becomes of them when they are spoiled.
 *
 * @module
 */

import type { Prng } from "../../lib/base/prng.ts";
import type { LegServerOptions } from "../../lib/core/leg_server.ts";
import { computeLayout, type Layout } from "../../lib/disk_format/layout.ts";
import type { Superblock } from "../../lib/disk_format/records.ts";
import type { EpochChange, Hello, ResyncOrder } from "../../lib/wire/bodies.ts";
import { bodyKind, encodeBody } from "../../lib/wire/body_codec.ts";
import { MAX_PAYLOAD_BYTES, Message, MessageType } from "../../lib/wire/message.ts";
import { anyWords, frameOf } from "./fuzz_frames.ts";

export const SIZE_BYTES = 64 << 20;
export const SHAPE = { sizeBytes: SIZE_BYTES, chunkBytes: 4096, extentBytes: 65536, hotExtentCount: 128 };
export const LAYOUT: Layout = computeLayout(SHAPE);
export const LEG_UUIDS = [0, 1, 2].map((leg) => `0000000${leg}-0000-4000-8000-000000000000`);
export const CLIENT_UUIDS = [7, 8].map((client) => `1000000${client}-0000-4000-8000-000000000000`);
export const POOL_UUID = "20000000-0000-4000-8000-000000000000";
export const INSTANCE = "30000000-0000-4000-8000-000000000000";

export const CLIENT_TYPES = [
  MessageType.WRITE,
  MessageType.WRITE,
  MessageType.WRITE,
  MessageType.WRITE_ZEROES,
  MessageType.DISCARD,
  MessageType.READ,
  MessageType.READ,
  MessageType.FLUSH,
  MessageType.PING,
  MessageType.EPOCH,
  MessageType.JOIN,
  MessageType.JOIN,
  MessageType.RESYNC,
  MessageType.CLAIM,
  MessageType.DETACH,
];
export const PEER_TYPES = [
  MessageType.MAP_FETCH,
  MessageType.PULL,
  MessageType.CLEAR,
  MessageType.HASH,
  MessageType.PING,
];
export const SOURCE_TYPES = [
  MessageType.WELCOME,
  MessageType.WELCOME,
  MessageType.MAP_PART,
  MessageType.MAP_PART,
  MessageType.PULL_DATA,
  MessageType.PULL_DATA,
  MessageType.HASH_DATA,
  MessageType.ACK,
  MessageType.REFUSE,
];
/** What a source answers. */
export const ANSWERS = new Map<number, number>([
  [MessageType.HELLO, MessageType.WELCOME],
  [MessageType.MAP_FETCH, MessageType.MAP_PART],
  [MessageType.PULL, MessageType.PULL_DATA],
  [MessageType.HASH, MessageType.HASH_DATA],
]);

function superblock(): Superblock {
  return {
    ...SHAPE,
    poolUuid: POOL_UUID,
    poolName: "fuzz",
    legUuid: LEG_UUIDS[0],
    legIndex: 0,
    logicalBlockBytes: 512,
    epochOffset: LAYOUT.epochOffset,
    intentOffset: LAYOUT.intentOffset,
    mapOffset: LAYOUT.mapOffset,
    dataOffset: LAYOUT.dataOffset,
    createdMs: 0,
  };
}

function firstRecord(inSyncMask: number): EpochChange["shared"] {
  return {
    historyId: POOL_UUID,
    historyNumber: 0,
    generation: 1,
    clientGeneration: 1,
    epoch: 1,
    inSyncMask,
    minInSync: 1,
    ioTimeoutMs: 1000,
    legs: LEG_UUIDS.map((uuid, leg) => ({
      uuid,
      address: `10.0.0.${leg}:7701`,
      mapIncarnation: 1,
      mapDefaultDirty: false,
      outSinceMs: 0,
      isDrained: false,
    })),
  };
}

/** A leg as it is after it was made, in a pool of three. */
export function legOptions(random: Prng, nowMs: number): LegServerOptions {
  return {
    superblock: superblock(),
    record: {
      shared: firstRecord(random.pick([7, 3, 6])),
      promisedGeneration: 1,
      promisedTo: CLIENT_UUIDS[0],
      isStable: random.below(2) === 0,
      bootId: "boot",
    },
    bootId: random.pick(["boot", "another", ""]),
    intentSlots: new Uint32Array(SHAPE.hotExtentCount).fill(0xffffffff),
    intentsDamaged: random.below(8) === 0,
    mapPages: [],
    metadataSequence: 1,
    instance: INSTANCE,
    nowMs,
    creditRequests: 32,
  };
}

/** A greeting of a client or of one of the other legs. */
export function helloTo(random: Prng, role: "client" | "reader" | "peer"): Hello {
  const base = { protocol: 1, features: random.next(), role, poolUuid: POOL_UUID, legIndex: 0 };
  return role !== "peer" ? base : { ...base, senderUuid: random.pick(LEG_UUIDS), senderLegIndex: random.below(4) };
}

/** Makes frames. */
export class LegFrames {
  readonly #random: Prng;
  /** The leg's record as it is now. */
  readonly #record: () => EpochChange["shared"];
  #sequence = 1;
  #generation = 1;

  constructor(random: Prng, record: () => EpochChange["shared"]) {
    this.#random = random;
    this.#record = record;
  }

  /** A frame of `type` as a sender that follows the protocol might send it now. */
  plausible(type: number, asked: Message | null): Uint8Array {
    const random = this.#random;
    const message = new Message().reset(type);
    message.requestId = asked === null ? random.below(64) : asked.requestId;
    message.legIndex = asked === null ? random.below(4) : asked.legIndex;
    message.resyncSession = asked === null || random.below(8) === 0 ? 1 + random.below(3) : asked.resyncSession;
    message.watermark = Math.max(0, this.#sequence - random.below(40));
    message.flags = random.pick([0, 0, 1, 4]);
    message.mask = random.pick([0, 0, 2, 4, 6, 255]);
    const lengthBytes = random.pick([512, 4096, 4096, 8192, 65536, 200 * 512, 512 * (1 + random.below(4096))]);
    message.offset = asked === null ? 512 * random.below((SIZE_BYTES - lengthBytes) / 512) : asked.offset;
    // Mostly the same few extents, so that things overlap and wait.
    if (asked === null && random.below(3) > 0) message.offset %= 1 << 20;
    message.length = asked === null ? lengthBytes : asked.length;
    switch (type) {
      case MessageType.WRITE:
      case MessageType.WRITE_ZEROES:
      case MessageType.DISCARD:
        message.length = type === MessageType.WRITE ? Math.min(lengthBytes, MAX_PAYLOAD_BYTES) : lengthBytes;
        message.sequence = ++this.#sequence;
        return frameOf(message, type === MessageType.WRITE ? new Uint8Array(message.length) : null);
      case MessageType.FLUSH:
        message.sequence = this.#sequence;
        return frameOf(message, null);
      case MessageType.PULL:
      case MessageType.HASH:
        message.offset -= message.offset % SHAPE.chunkBytes;
        return frameOf(message, null);
      case MessageType.MAP_FETCH:
        message.sequence = random.below(20_000);
        return frameOf(message, null);
      case MessageType.PULL_DATA: {
        message.status = random.pick([0, 0, 0, 0, -11, -5, -116]);
        const hasData = message.status === 0 && message.length > 0 && message.length <= MAX_PAYLOAD_BYTES;
        return frameOf(message, hasData ? new Uint8Array(message.length) : null);
      }
      case MessageType.MAP_PART:
        message.sequence = random.pick([0, 0, 0, 5000, 20_000]);
        message.status = random.pick([0, 0, 0, -11, -5]);
        return frameOf(message, encodeBody(type, anyWords(random, random.below(8), SIZE_BYTES / SHAPE.chunkBytes)));
      case MessageType.CLEAR:
      case MessageType.HASH_DATA: {
        const count = type === MessageType.HASH_DATA && random.below(4) > 0 ? message.length / 4096 : random.below(8);
        return frameOf(message, encodeBody(type, anyWords(random, Math.floor(count), SIZE_BYTES / SHAPE.chunkBytes)));
      }
      default:
        return frameOf(message, bodyKind(type) === "json" ? encodeBody(type, this.#body(type)) : null);
    }
  }

  #body(type: number): object {
    const random = this.#random;
    const resyncSession = 1 + random.below(3);
    switch (type) {
      case MessageType.CLAIM:
        this.#generation += random.below(3);
        return {
          generation: this.#generation,
          clientUuid: random.pick(CLIENT_UUIDS),
          clientName: "fuzz",
          takeover: random.below(2) === 0,
        };
      case MessageType.EPOCH:
        return {
          shared: this.#nextRecord(),
          droppedMask: random.below(8),
          suspectExtents: this.#anyExtents(),
        } satisfies EpochChange;
      case MessageType.RESYNC:
        return {
          resyncSession,
          mode: random.pick(["dirty", "reconcile"]),
          sources: random.pick([[1], [2], [1, 2], [0], [7], [2, 2]]),
          extents: this.#anyExtents(),
          shared: this.#nextRecord(),
        } satisfies ResyncOrder;
      case MessageType.WELCOME:
        return { protocol: 1, features: 0, instance: INSTANCE, creditRequests: random.below(50), creditBytes: 1 << 20 };
      default:
        return { code: "busy", message: "Not now" };
    }
  }

  #nextRecord(): EpochChange["shared"] {
    const random = this.#random;
    const record = this.#record();
    const legs = record.legs.map((leg, index) => {
      const choice = random.below(30);
      if (choice === 0 && index !== 0) return null;
      if (leg === null || choice > 3) return leg ?? firstRecord(7).legs[index];
      return { ...leg, mapIncarnation: leg.mapIncarnation + random.below(2), mapDefaultDirty: random.below(2) === 0 };
    });
    return {
      ...record,
      generation: this.#generation,
      epoch: record.epoch + random.below(3),
      inSyncMask: random.pick([1, 3, 5, 7, 6, 2, 0, 255]),
      legs,
    };
  }

  #anyExtents(): number[] {
    const random = this.#random;
    const extentCount = SIZE_BYTES / SHAPE.extentBytes;
    const few = Array.from({ length: random.below(4) }, () => random.below(extentCount));
    return random.below(10) === 0 ? [...few, random.next53()] : few;
  }
}
