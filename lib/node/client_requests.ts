/**
 * What operators may ask of a client's data plane, and the check of what they send.
 *
 * @module
 */

import * as v from "valibot";
import { ControlError } from "../control/control_api.ts";
import type { LegChange } from "../core/leg_table_changes.ts";
import { legIndexSchema as legIndex, uuidSchema } from "./leg_schema.ts";

const change = v.variant("kind", [
  v.object({ kind: v.literal("drain"), legIndex }),
  v.object({ kind: v.literal("undrain"), legIndex }),
  v.object({ kind: v.literal("remove"), legIndex }),
  v.object({
    kind: v.literal("add"),
    legIndex,
    legUuid: uuidSchema,
    address: v.pipe(v.string(), v.minLength(1), v.maxLength(259)),
    replacesIndex: v.pipe(v.number(), v.integer(), v.minValue(-1), v.maxValue(7)),
  }),
]);

const schemas = {
  "client.changeLegs": change,
  "client.verify": v.object({
    repair: v.boolean(),
    rateBytesPerSecond: v.pipe(v.number(), v.safeInteger(), v.minValue(0)),
  }),
  "client.verifyStop": v.object({}),
} as const;

/** What the data plane is asked for, once checked. */
export type ClientRequest =
  | { readonly op: "client.changeLegs"; readonly request: LegChange }
  | { readonly op: "client.verify"; readonly request: { repair: boolean; rateBytesPerSecond: number } }
  | { readonly op: "client.verifyStop"; readonly request: Record<string, never> };

/** The operations. */
export const CLIENT_REQUESTS = Object.keys(schemas) as (keyof typeof schemas)[];

/** Whether there is such an operation. */
export function isClientRequest(op: string): op is keyof typeof schemas {
  return Object.hasOwn(schemas, op);
}

/**
 * The arguments in `request`, checked.
 * @throws {ControlError} "bad-request"
 */
export function parseClientRequest(op: keyof typeof schemas, request: unknown): unknown {
  const parsed = v.safeParse(schemas[op], request);
  if (parsed.success) return parsed.output;
  const issue = parsed.issues[0];
  throw new ControlError("bad-request", `${op}: ${v.getDotPath(issue) ?? "request"}: ${issue.message}`);
}
