/**
 * Broken cores that the simulator must catch. Each breaks one rule of the production core, in the running process only; a
 * simulator that lets it pass would not notice the same mistake in the source either. `deno task canaries` tells after how
 * many seeds each is caught.
 *
 * @module
 */

import assert from "node:assert/strict";
import { Caretaker } from "../../lib/core/caretaker.ts";
import { ClientContext, type LegLink } from "../../lib/core/client_context.ts";
import type { LegEntry, SharedEpoch } from "../../lib/disk_format/records.ts";
import { ClientIo } from "../../lib/core/client_io.ts";
import { ClientMembership } from "../../lib/core/client_membership.ts";
import { DirtyMap } from "../../lib/core/dirty_map.ts";
import type { ForceOrder } from "../../lib/core/forced_start.ts";
import { IntentLog, Pin } from "../../lib/core/intent_log.ts";
import { LegContext } from "../../lib/core/leg_context.ts";
import { LegIo } from "../../lib/core/leg_io.ts";
import { LegMetadata } from "../../lib/core/leg_metadata.ts";
import { LegReaders } from "../../lib/core/leg_readers.ts";
import { LegServer } from "../../lib/core/leg_server.ts";
import { LegSession } from "../../lib/core/leg_session.ts";
import { LegTableChanges } from "../../lib/core/leg_table_changes.ts";
import { OutputKind } from "../../lib/core/output.ts";
import type { Claim, Refusal } from "../../lib/wire/bodies.ts";
import { Overlap } from "../../lib/core/overlap.ts";
import { RangeCounter } from "../../lib/core/range_counter.ts";
import { RangeLock } from "../../lib/core/range_lock.ts";
import { ReadConfirmation } from "../../lib/core/read_confirmation.ts";
import { ResyncClear } from "../../lib/core/resync_clear.ts";
import { ResyncJob } from "../../lib/core/resync_job.ts";
import { ResyncSource } from "../../lib/core/resync_source.ts";
import { ResyncTarget } from "../../lib/core/resync_target.ts";
import { VerifyRound } from "../../lib/core/verify_round.ts";
import { UnflushedSet } from "../../lib/core/unflushed_set.ts";
import { OwnHistory } from "../../lib/core/own_history.ts";
import { type Message, MessageType } from "../../lib/wire/message.ts";
import { runSeed } from "./run_seed.ts";
import { tellSupersededRead } from "./superseded_read.ts";
import { Violation } from "./violation.ts";

/** Worlds within which a broken core must be caught. */
export const MOST_SEEDS = 1500;
const EPOCH_OFFSET = 8192;
const INTENT_OFFSET = 16384;

// deno-lint-ignore no-explicit-any -- methods of any class are replaced
type Patchable = any;

/** Begins the error of a canary that breaks nothing. */
export const CANNOT_PLANT = "This canary cannot be planted";

/** Replaces `method` of a class while `run` runs. */
function withPatch(target: Patchable, method: string, make: (original: Patchable) => Patchable, run: () => void): void {
  const descriptor = Object.getOwnPropertyDescriptor(target.prototype, method)!;
  assert.ok(descriptor !== undefined, `${CANNOT_PLANT}: ${target.name} has no ${method}`);
  if (descriptor.get !== undefined) {
    Object.defineProperty(target.prototype, method, { ...descriptor, get: make(descriptor.get) });
  } else Object.defineProperty(target.prototype, method, { ...descriptor, value: make(descriptor.value) });
  try {
    run();
  } finally {
    Object.defineProperty(target.prototype, method, descriptor);
  }
}

/** One broken core. */
export interface Canary {
  readonly name: string;
  /** Runs worlds, from `first` or 1 on, until one of them fails; returns how many it took, or Infinity. */
  readonly seedsUntilCaught: (first?: number) => number;
  /** Runs something with the core broken. */
  readonly plant: (run: () => void) => void;
}

/** All of them. */
export const CANARIES: Canary[] = [];

function canary(name: string, target: Patchable, method: string, make: (original: Patchable) => Patchable): void {
  plantedCanary(name, (run) => withPatch(target, method, make, run));
}

function plantedCanary(name: string, plant: Canary["plant"]): void {
  CANARIES.push({
    name,
    plant,
    seedsUntilCaught: (first = 1) => {
      let seeds = Infinity;
      plant(() => {
        for (let tried = 1; tried <= MOST_SEEDS && seeds === Infinity; tried++) {
          if (runSeed(first + tried - 1).violation !== null) seeds = tried;
        }
      });
      return seeds;
    },
  });
}

/** One that is caught by a story, which chance tells too seldom. */
function toldCanary(name: string, target: Patchable, method: string, make: (original: Patchable) => Patchable): void {
  const plant = (run: () => void) => withPatch(target, method, make, run);
  const isCaught = () => {
    try {
      tellSupersededRead();
      return false;
    } catch (error) {
      if (error instanceof Violation) return true;
      throw error;
    }
  };
  const seedsUntilCaught = () => {
    assert.ok(!isCaught(), "Nothing is wrong with the core as it is");
    let seeds = Infinity;
    plant(() => seeds = isCaught() ? 1 : Infinity);
    return seeds;
  };
  CANARIES.push({ name, plant, seedsUntilCaught });
}

/** The core is told that metadata is durable as soon as it asks for it to be written. */
function durableTooSoon(offset: number) {
  return (poll: Patchable) =>
    function (this: LegServer) {
      const output = poll.call(this);
      if (output?.kind !== OutputKind.METADATA_WRITE || output.offset !== offset) return output;
      const { token, body } = output;
      this.handleMetadataDone(token, 0);
      output.kind = OutputKind.METADATA_WRITE;
      output.token = token;
      output.offset = offset;
      output.body = body;
      return output;
    };
}

canary("an epoch is confirmed before it is durable", LegServer, "poll", durableTooSoon(EPOCH_OFFSET));
canary("data is written before its intent is durable", LegServer, "poll", durableTooSoon(INTENT_OFFSET));
canary(
  "the intent log is not waited for",
  IntentLog,
  "pin",
  (pin) =>
    function (this: IntentLog, first: number, last: number, sequence: number) {
      const result = pin.call(this, first, last, sequence);
      return result === Pin.PENDING ? Pin.HOT : result;
    },
);
canary(
  "an extent is forgotten before its writes are flushed",
  IntentLog,
  "forget",
  (forget) =>
    function (this: IntentLog, most: number, _watermark: number, onlyCold: boolean, may: Patchable) {
      return forget.call(this, most, Infinity, onlyCold, may);
    },
);
canary("an extent is forgotten before its dirty pages are saved", DirtyMap, "isUnsaved", () => () => false);
canary("a dropped leg's unflushed data is in nobody's map", UnflushedSet, "forEach", () => () => {});
canary("writes that skip a leg are not recorded", DirtyMap, "add", () => () => {});
canary("the maps of absent legs are not taken over by a leg that joins", DirtyMap, "addAll", () => () => {});
canary("overlapping requests and pulls are not kept apart", RangeCounter, "any", () => () => false);
canary("a leg under resync serves chunks that it lacks", ResyncTarget, "mustWait", () => () => false);
canary("after an unclean end nothing is compared", IntentLog, "extents", () => () => []);
canary("a lost leg is forgotten, not dropped", ClientMembership, "linkLost", () => () => {});
canary("nobody cares for the legs while there is no client", Caretaker, "handleTick", () => () => {});
canary("a caretaker claims as if it were a client", ClientContext, "isCaretaker", () => () => false);
canary("a session's waiting writes are done after its end", LegIo, "discardWaiting", () => () => {});
canary(
  "an epoch's suspicions are ignored",
  LegSession,
  "handleEpoch",
  (handle) =>
    function (this: LegSession, connection: number, requestId: number, change: Patchable) {
      handle.call(this, connection, requestId, { ...change, suspectExtents: [] });
    },
);
canary(
  "a flush's watermark runs ahead of it",
  LegIo,
  "handleWatermark",
  (handle) =>
    function (this: LegIo, watermark: number) {
      handle.call(this, watermark === 0 ? 0 : watermark + 3);
    },
);
canary(
  "a failed write counts as done",
  LegIo,
  "diskDone",
  (done) =>
    function (this: LegIo, operation: number, _result: number, slot: number) {
      done.call(this, operation, 0, slot);
    },
);

canary(
  "a record drops a leg before its data is flushed",
  LegMetadata,
  "holdRecords",
  () => () => {},
);
toldCanary("a read is told of without asking whose the legs are", ReadConfirmation, "isConfirmed", () => () => true);
canary(
  "a reader believes what one leg says",
  LegReaders,
  "hashed",
  (hashed) =>
    function (this: LegReaders, operation: number, words: Uint32Array) {
      hashed.call(this, operation, new Uint32Array(words.length));
    },
);
canary(
  "a claim of any generation is granted",
  LegSession,
  "handleClaim",
  (handle) =>
    function (this: LegSession, connection: number, requestId: number, claim: Claim) {
      handle.call(this, connection, requestId, { ...claim, generation: claim.generation + 1_000_000, takeover: true });
    },
);
canary("a verify does not lock what it compares", RangeLock, "overlaps", () => () => false);
canary(
  "a new disk is taken for a copy of the old one",
  LegContext,
  "adoptIncarnations",
  (adopt) =>
    function (this: LegContext, shared: SharedEpoch, isOrder: boolean) {
      const legs = shared.legs.map((entry) => entry === null ? null : { ...entry, mapDefaultDirty: false });
      return adopt.call(this, { ...shared, legs }, isOrder);
    },
);
canary("a disk made in place of another is never taken up", LegTableChanges, "mayAdopt", () => () => false);
const droppedAtOnce = () =>
  function (this: ClientMembership, legIndex: number, entry: LegEntry) {
    const latest = this.latest as SharedEpoch;
    const legs = latest.legs.map((each, index) => index === legIndex ? entry : each);
    this.propose({ ...latest, epoch: latest.epoch + 1, inSyncMask: latest.inSyncMask & ~(1 << legIndex), legs });
  };
plantedCanary("the last leg in sync is removed", (run) => {
  withPatch(LegTableChanges, "problemOf", () => () => null, () => {
    withPatch(ClientMembership, "dropLeg", droppedAtOnce, run);
  });
});

/** A broken core that takes an order of events which chance hardly finds: a scenario must catch it. */
export interface ScenarioCanary {
  readonly name: string;
  /** File in tests/scenario. */
  readonly scenario: string;
  readonly plant: (run: () => void) => void;
}

/** The joins of a leg when it sent something last. */
const joinsBefore = new WeakMap<LegContext, Uint32Array>();

/** The source of a resync does not look at how far the leg that asks has come, in epochs or in writes. */
function blindSource(type: number): ScenarioCanary["plant"] {
  const blind = (handle: Patchable) =>
    function (this: ResyncSource, connection: number, message: Message, body: unknown) {
      if (message.type === type) message.watermark = 0;
      handle.call(this, connection, message, body);
    };
  return (run) => withPatch(ResyncSource, "handleMessage", blind, run);
}

/** All of them; tests/scenario/scenario_test.ts plays them. */
export const SCENARIO_CANARIES: readonly ScenarioCanary[] = [{
  name: "a leg that was dropped may still clear what it misses",
  scenario: "clear_overtaken_by_second_drop.txt",
  plant: (run) => {
    const remember = (send: Patchable) =>
      function (this: LegContext, ...values: unknown[]) {
        joinsBefore.set(this, this.joins.slice());
        return send.apply(this, values);
      };
    const restore = (adopt: Patchable) =>
      function (this: LegContext, shared: SharedEpoch, isOrder: boolean) {
        joinsBefore.get(this)?.forEach((session, index) => this.joins[index] ||= session);
        return adopt.call(this, shared, isOrder);
      };
    withPatch(LegContext, "send", remember, () => withPatch(LegContext, "adoptIncarnations", restore, run));
  },
}, {
  name: "a client goes back to an older history",
  scenario: "client_does_not_go_back_to_an_older_history.txt",
  plant: (run) => withPatch(OwnHistory, "isOutlived", () => () => false, run),
}, {
  name: "a leg of another history is asked while the pool is assembled anew",
  scenario: "other_history_greets_while_assembling.txt",
  plant: (run) => withPatch(OwnHistory, "greeted", () => () => "", run),
}, {
  name: "a write that is still under way on a leg is sent to it again",
  scenario: "write_under_way_when_the_path_changes.txt",
  plant: (run) => {
    const forget = (original: Patchable) =>
      function (this: Patchable, from: number, to: number) {
        original.call(this, from, to);
        return [];
      };
    withPatch(LegIo, "moveOperations", forget, run);
  },
}, {
  name: "a client comes back to a leg whose disk has failed what it may not know of",
  scenario: "write_fails_after_a_drop_and_the_path_breaks.txt",
  plant: (run) => withPatch(LegContext, "noteFailure", () => () => undefined, run),
}, {
  name: "a map is told before the news of the leg it is about",
  scenario: "map_told_before_the_epoch_is_known.txt",
  plant: blindSource(MessageType.MAP_FETCH),
}, {
  name: "a chunk is cleared whose data may hold a write that nobody else knows",
  scenario: "pulled_write_that_never_became_complete.txt",
  plant: blindSource(MessageType.CLEAR),
}, {
  name: "a leg is admitted while a record is on its way",
  scenario: "record_on_its_way_is_told_to_nobody_else.txt",
  plant: (run) => withPatch(ClientMembership, "isProposing", () => () => false, run),
}, {
  name: "a detach does not flush again after a flush that failed",
  scenario: "detach_after_a_flush_that_failed.txt",
  plant: (run) => withPatch(ClientIo, "forgetFailedFlush", () => () => {}, run),
}, {
  name: "a resync ends by what was flushed before all was on the disk",
  scenario: "joins_before_its_maps_are_saved.txt",
  plant: (run) => withPatch(ResyncClear, "isLast", () => () => true, run),
}, {
  name: "a leg joins while its record says that all it acks is stable",
  scenario: "joins_before_its_record_is_written.txt",
  plant: (run) => withPatch(LegMetadata, "isRecordSaved", () => () => true, run),
}, {
  name: "a leg joins without a write that was in what it pulled",
  scenario: "joins_with_a_write_that_it_has_not_had.txt",
  // A client that takes a leg in only when it has done all writes keeps that from harm as well.
  plant: (run) =>
    withPatch(
      ResyncJob,
      "hasWhatWasPulled",
      () => () => true,
      () => withPatch(ClientIo, "holdWrites", () => () => 0, run),
    ),
}, {
  name: "pages count that are from before a record which was given up",
  scenario: "target_back_from_a_record_without_a_leg.txt",
  plant: (run) => withPatch(DirtyMap, "distrust", () => () => {}, run),
}, {
  name: "a flush that failed is nobody's business but the client's that asked for it",
  scenario: "failed_flush_outlives_the_process.txt",
  plant: (run) => withPatch(LegIo, "noteFailedFlush", () => () => {}, run),
}, {
  name: "an order to start by force founds a second history",
  scenario: "force_founds_one_history.txt",
  plant: (run) => {
    const orders = new WeakMap<ClientContext, ForceOrder>();
    const remember = (send: Patchable) =>
      function (this: ClientContext, ...values: unknown[]) {
        if (this.force !== null) orders.set(this, this.force);
        return send.apply(this, values);
      };
    const restore = (forgetLegs: Patchable) =>
      function (this: ClientContext) {
        forgetLegs.call(this);
        if (!this.wasReady) this.force ??= orders.get(this) ?? null;
      };
    withPatch(ClientContext, "send", remember, () => withPatch(ClientContext, "forgetLegs", restore, run));
  },
}, {
  name: "reads that overlap become writes together",
  scenario: "two_reads_that_overlap_mend_nothing_together.txt",
  plant: (run) => withPatch(Overlap, "isShared", () => () => false, run),
}, {
  name: "a verify copies beside what a read mends",
  scenario: "read_mends_nothing_that_a_verify_holds.txt",
  plant: (run) => {
    const unlocked = (isShared: Patchable) =>
      function (this: Overlap, request: number) {
        let isIt = false;
        withPatch(RangeLock, "overlaps", () => () => false, () => isIt = isShared.call(this, request));
        return isIt;
      };
    let client: ClientContext | null = null;
    const remember = (send: Patchable) =>
      function (this: ClientContext, ...values: unknown[]) {
        client = this;
        return send.apply(this, values);
      };
    // It does not wait, and does not mind that its source has left the set.
    const careless = (copy: Patchable) =>
      function (this: ClientIo, ...range: unknown[]) {
        const { inSyncMask } = client!;
        client!.inSyncMask = client!.activeMask;
        withPatch(Overlap, "mustWait", () => () => false, () => copy.apply(this, range));
        client!.inSyncMask = inSyncMask;
      };
    const plantCopy = () => withPatch(ClientIo, "copy", careless, run);
    withPatch(ClientContext, "send", remember, () => withPatch(Overlap, "isShared", unlocked, plantCopy));
  },
}, {
  name: "what legs have said of a range holds for ever",
  scenario: "source_of_a_copy_left_and_came_back.txt",
  plant: (run) => withPatch(VerifyRound, "isOfThisEpoch", () => () => true, run),
}, {
  name: "a leg becomes a member while it still has to do what the other members have done",
  scenario: "leg_joins_with_all_that_readers_were_told.txt",
  plant: (run) => withPatch(ClientIo, "holdWrites", () => () => 0, run),
}, {
  name: "a client that has served ends when a leg is held for another, who may be dead",
  scenario: "rival_dies_with_a_claim.txt",
  plant: (run) => {
    const pools = new WeakMap<LegLink, ClientContext>();
    const remember = (send: Patchable) =>
      function (this: ClientContext, link: LegLink, ...values: unknown[]) {
        pools.set(link, this);
        return send.call(this, link, ...values);
      };
    const asIfNew = (handle: Patchable) =>
      function (this: ClientMembership, link: LegLink, message: Message, refusal: Refusal) {
        const pool = pools.get(link)!;
        const { wasReady } = pool;
        if (refusal.code === "held") pool.wasReady = false;
        handle.call(this, link, message, refusal);
        pool.wasReady = wasReady;
      };
    withPatch(ClientContext, "send", remember, () => withPatch(ClientMembership, "handleRefusal", asIfNew, run));
  },
}];

if (import.meta.main) {
  let missed = 0;
  for (const { name, seedsUntilCaught } of CANARIES) {
    const seeds = seedsUntilCaught();
    if (seeds === Infinity) missed++;
    console.log(`${seeds === Infinity ? "not caught" : `${String(seeds).padStart(4)} seeds`}  ${name}`);
  }
  console.log(`canaries ${CANARIES.length}, not caught ${missed}`);
  if (missed > 0) Deno.exit(1);
}
