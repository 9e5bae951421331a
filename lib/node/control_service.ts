/**
 * Answers operators on a storage node: the operations of lib/control/control_api.ts. Everything from the network is
 * validated; whatever goes wrong becomes an error reply, never the end of the node.
 *
 * @module
 */

import * as v from "valibot";
import { ControlError, type NodeOperations } from "../control/control_api.ts";
import { type ControlReply, encodeFailure } from "../control/control_reply.ts";
import type { ClientSnapshot } from "../core/snapshot.ts";
import { CLIENT_REQUESTS, isClientRequest, parseClientRequest } from "./client_requests.ts";
import type { LegRegistry } from "./leg_registry.ts";
import { countSchema, legIndexSchema, legShapeSchema, nameSchema, pathSchema, uuidSchema } from "./leg_schema.ts";

const legCreate = v.object({ ...legShapeSchema.entries, path: pathSchema, force: v.boolean() });

const schemas = {
  "node.info": v.object({}),
  "leg.probe": v.object({ path: pathSchema, signaturesOnly: v.optional(v.boolean()) }),
  "leg.create": legCreate,
  "leg.replace": v.object({ ...legCreate.entries, replacesUuid: uuidSchema }),
  "leg.delete": v.object({ poolUuid: uuidSchema, legUuid: uuidSchema, force: v.boolean() }),
  "leg.undoReplace": v.object({ poolUuid: uuidSchema, legUuid: uuidSchema }),
  "pool.status": v.object({ pool: nameSchema }),
  "pool.dirtyMap": v.object({
    pool: nameSchema,
    legIndex: legIndexSchema,
    buckets: v.pipe(countSchema, v.minValue(1), v.maxValue(4096)),
    maxRuns: v.pipe(countSchema, v.maxValue(10_000)),
  }),
  "operator.begin": v.object({ pool: nameSchema }),
  "operator.ask": v.object({
    pool: nameSchema,
    holder: countSchema,
    operation: v.picklist(["client.status", "client.detach", ...CLIENT_REQUESTS]),
    request: v.record(v.string(), v.unknown()),
  }),
  "resync.set": v.object({
    pool: nameSchema,
    paused: v.optional(v.boolean()),
    rateBytesPerSecond: v.optional(countSchema),
  }),
} as const;

type Operation = keyof typeof schemas & keyof NodeOperations;

/** What the service needs to know of its node. */
export interface NodeFacts {
  readonly nodeName: string;
  readonly version: string;
  readonly address: string;
}

/** The operations of one storage node. */
export class ControlService {
  readonly #facts: NodeFacts;
  readonly #legs: LegRegistry;

  constructor(facts: NodeFacts, legs: LegRegistry) {
    this.#facts = facts;
    this.#legs = legs;
  }

  /** Answers one request, given as the text that arrived. Never rejects. */
  async answer(text: string): Promise<ControlReply> {
    try {
      let request: unknown;
      try {
        request = JSON.parse(text);
      } catch {
        throw new ControlError("bad-request", "The request is not JSON");
      }
      const op = (request as { op?: unknown } | null)?.op;
      if (typeof op !== "string" || !Object.hasOwn(schemas, op)) {
        const known = Object.keys(schemas).join(", ");
        throw new ControlError(
          "bad-request",
          `This node has no operation ${JSON.stringify(String(op).slice(0, 64))}. It has ${known}`,
        );
      }
      const parsed = v.safeParse(schemas[op as Operation], request);
      if (!parsed.success) {
        const issue = parsed.issues[0];
        throw new ControlError("bad-request", `${op}: ${v.getDotPath(issue) ?? "request"}: ${issue.message}`);
      }
      // deno-lint-ignore no-explicit-any -- validated just above against the schema of this very operation
      return { ok: true, result: await this.#perform(op as Operation, parsed.output as any) };
    } catch (error) {
      return encodeFailure(error);
    }
  }

  // deno-lint-ignore no-explicit-any
  #perform(op: Operation, request: any): Promise<unknown> {
    switch (op) {
      case "node.info":
        return this.#info();
      case "leg.probe":
        return this.#legs.probe(request.path, request.signaturesOnly ?? false);
      case "leg.create":
        return this.#legs.create(request);
      case "leg.replace":
        return this.#legs.replace(request);
      case "leg.delete":
        return this.#legs.delete(request);
      case "leg.undoReplace":
        return this.#legs.undoReplace(request);
      case "pool.status":
        return this.#poolStatus(request.pool);
      case "pool.dirtyMap":
        return this.#legs.dirtyMap(request);
      case "resync.set":
        return this.#legs.setResync(request);
      case "operator.begin":
        return this.#legs.beginOperator(request.pool);
      case "operator.ask":
        return this.#askOperator(request);
    }
  }

  /** Answers as a client node would. */
  async #askOperator(ask: NodeOperations["operator.ask"]["request"]): Promise<unknown> {
    const { operation } = ask;
    const request = isClientRequest(operation) ? parseClientRequest(operation, ask.request) : {};
    const result = await this.#legs.askOperator({ ...ask, request });
    if (operation !== "client.status") return result;
    const residentBytes = Deno.memoryUsage().rss;
    return { uri: "", pid: Deno.pid, connections: 0, residentBytes, snapshot: result as ClientSnapshot };
  }

  async #info(): Promise<NodeOperations["node.info"]["result"]> {
    const { legs, bufferBytes } = await this.#legs.status();
    return {
      ...this.#facts,
      pid: Deno.pid,
      residentBytes: Deno.memoryUsage().rss,
      bufferBytes,
      legs,
      broken: [...this.#legs.broken],
    };
  }

  async #poolStatus(pool: string): Promise<NodeOperations["pool.status"]["result"]> {
    const { legs: all, operated } = await this.#legs.status();
    const legs = all.filter(({ snapshot }) => snapshot.poolUuid === pool || snapshot.poolName === pool);
    if (legs.length === 0) throw new ControlError("not-found", `This node has no leg of pool "${pool}"`);
    return { legs, hasOperator: legs.some(({ snapshot }) => operated.includes(snapshot.poolUuid)) };
  }
}
