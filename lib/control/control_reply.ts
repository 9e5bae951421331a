/**
 * The envelope around every answer of the control API: `{ok: true, result}` or `{ok: false, error: {code, message}}`.
 * Used by both ends, so that they cannot differ.
 *
 * @module
 */

import * as v from "valibot";
import { ControlError } from "./control_api.ts";

const codes = [
  "bad-request",
  "not-found",
  "exists",
  "in-use",
  "device",
  "foreign-data",
  "refused",
  "unreachable",
  "timeout",
  "internal",
] as const;

const replySchema = v.variant("ok", [
  v.object({ ok: v.literal(true), result: v.unknown() }),
  // A code of a newer version is still an error with a sentence to show.
  v.object({
    ok: v.literal(false),
    error: v.object({ code: v.fallback(v.picklist(codes), "internal"), message: v.string() }),
  }),
]);

/** One of the two forms of an answer. */
export type ControlReply =
  | { readonly ok: true; readonly result: unknown }
  | { readonly ok: false; readonly error: { readonly code: string; readonly message: string } };

/**
 * The result in `reply`. `sender` names who answered, for the error.
 * @throws {ControlError} the error in the reply, or "unreachable" when it has neither shape.
 */
export function decodeReply(reply: unknown, sender: string): unknown {
  const parsed = v.safeParse(replySchema, reply);
  if (!parsed.success) {
    throw new ControlError(
      "unreachable",
      `The answer of the ${sender} makes no sense to this version of brmr. Use the same version on both.`,
    );
  }
  if (parsed.output.ok) return parsed.output.result;
  throw new ControlError(parsed.output.error.code, parsed.output.error.message);
}

/** The answer that carries `error`. What is not a ControlError is our bug: "internal". */
export function encodeFailure(error: unknown): ControlReply {
  if (error instanceof ControlError) return { ok: false, error: { code: error.code, message: error.message } };
  return { ok: false, error: { code: "internal", message: error instanceof Error ? error.message : String(error) } };
}
