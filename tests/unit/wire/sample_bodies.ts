/**
 * One sound body for each message type with JSON, for tests of the codec and as what fuzzing starts from.
 *
 * @module
 */

import type {
  Claim,
  EpochChange,
  Grant,
  Hello,
  Refusal,
  ResyncOrder,
  ResyncReport,
  Welcome,
} from "../../../lib/wire/bodies.ts";
import { MessageType } from "../../../lib/wire/message.ts";

const UUID_A = "0123abcd-4567-89ab-cdef-0123456789ab";
const UUID_B = "fedcba98-7654-3210-fedc-ba9876543210";

const leg = (uuid: string, address: string) => ({
  uuid,
  address,
  mapIncarnation: 3,
  mapDefaultDirty: false,
  outSinceMs: 0,
  isDrained: true,
});

const shared: EpochChange["shared"] = {
  historyId: UUID_A,
  historyNumber: 1,
  generation: 5,
  clientGeneration: 4,
  epoch: 9,
  inSyncMask: 3,
  minInSync: 1,
  ioTimeoutMs: 30000,
  legs: [leg(UUID_A, "127.0.0.1:7701"), { ...leg(UUID_B, "127.0.0.1:7702"), replacesIndex: 0 }, null],
};
const record = { shared, promisedGeneration: 5, promisedTo: UUID_B };

const hello: Hello = {
  protocol: 1,
  features: 0,
  role: "client",
  poolUuid: UUID_A,
  legIndex: 1,
  senderUuid: UUID_B,
  senderName: "Knoten Ä (pid 7)",
};
const welcome: Welcome = {
  protocol: 1,
  features: 0,
  instance: UUID_B,
  legUuid: UUID_A,
  replacesUuid: UUID_B,
  record,
  creditRequests: 256,
  creditBytes: 33554432,
  addresses: ["127.0.0.1:7701", "rdma://10.0.0.1:7701"],
};
const refusal: Refusal = { code: "stale-generation", message: "Generation 4 is older than 5", generation: 5 };
const claim: Claim = { generation: 6, clientUuid: UUID_B, clientName: "host", takeover: false, returnMs: 600 };
const grant: Grant = {
  generation: 6,
  record,
  intents: [0, 1, 1048575],
  intentsLost: false,
  unbroken: true,
};
const epochChange: EpochChange = { shared, droppedMask: 2, suspectExtents: [7] };
const resyncOrder: ResyncOrder = {
  resyncSession: 11,
  mode: "dirty",
  sources: [0],
  extents: [],
  shared,
  addresses: [["127.0.0.1:7701"], []],
};
const resyncReport: ResyncReport = {
  resyncSession: 11,
  epoch: 9,
  state: "running",
  missingBytes: 4096,
  copiedBytes: 8192,
  rateBytesPerSecond: 1e6,
};

/** Type and body. */
export const SAMPLE_BODIES: readonly (readonly [number, object])[] = [
  [MessageType.HELLO, hello],
  [MessageType.WELCOME, welcome],
  [MessageType.REFUSE, refusal],
  [MessageType.CLAIM, claim],
  [MessageType.GRANT, grant],
  [MessageType.RETURN, { generation: 6, clientUuid: UUID_B, epoch: 9 }],
  [MessageType.RETURNED, { underWay: [17, 19] }],
  [MessageType.EPOCH, epochChange],
  [MessageType.RESYNC, resyncOrder],
  [MessageType.RESYNC_REPORT, resyncReport],
  [MessageType.CONTROL_REQUEST, { op: "node.info", path: "/data/a.img" }],
  [MessageType.CONTROL_REPLY, { ok: true, result: { legs: [] } }],
  [MessageType.CONTROL_REPLY, { ok: false, error: { code: "not-found", message: "No such pool" } }],
];
