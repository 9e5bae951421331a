/**
 * How two ends agree on a protocol version and on feature bits. Pure; used by both ends. The versions and bits
 * themselves are listed in `version_log.md` beside this file.
 *
 * The side that connects offers its newest version and all its features (HELLO). The side that listens chooses the
 * newest version both speak and the features both know, and says so (WELCOME), or refuses in plain words. The side that
 * connected checks that the answer is one it can live with. Nothing else is exchanged before both have agreed.
 *
 * @module
 */

import { PROTOCOL_VERSION } from "./message.ts";

/** What one end speaks. It speaks every version from `oldest` to `newest`. */
export interface Dialect {
  readonly oldestProtocol: number;
  readonly newestProtocol: number;
  /** Feature bits known, as an integer up to 2^53 - 1. */
  readonly features: number;
  /** Feature bits without which this end cannot work. A part of `features`. */
  readonly requiredFeatures: number;
}

/** What HELLO and WELCOME say about it. */
export interface Offer {
  readonly protocol: number;
  readonly features: number;
}

/** What was agreed, or the code and message of the Refusal. */
export type Agreement =
  | { readonly ok: true; readonly protocol: number; readonly features: number }
  | { readonly ok: false; readonly code: "protocol-version" | "features"; readonly message: string };

/** Feature bits, as integers. See `version_log.md`. */
export const Feature = {
  /** A client may go on with its session on another connection. */
  RETURN: 1,
} as const;

/** What this code speaks. */
export const OUR_DIALECT: Dialect = {
  oldestProtocol: PROTOCOL_VERSION,
  newestProtocol: PROTOCOL_VERSION,
  features: Feature.RETURN,
  requiredFeatures: 0,
};

/** The listening end: what to answer to `hello`. */
export function answerOffer(ours: Dialect, hello: Offer): Agreement {
  const protocol = Math.min(ours.newestProtocol, hello.protocol);
  if (protocol < ours.oldestProtocol) return versionRefused(ours, hello.protocol);
  return withFeatures(ours, protocol, intersect(ours.features, hello.features));
}

/** The connecting end: whether it can live with `welcome`. */
export function checkAnswer(ours: Dialect, welcome: Offer): Agreement {
  if (welcome.protocol < ours.oldestProtocol || welcome.protocol > ours.newestProtocol) {
    return versionRefused(ours, welcome.protocol);
  }
  if (intersect(ours.features, welcome.features) !== welcome.features) {
    return {
      ok: false,
      code: "features",
      message: `The other end chose features ${bits(welcome.features)}, of which this end offered only ` +
        `${bits(ours.features)}; it does not follow the protocol`,
    };
  }
  return withFeatures(ours, welcome.protocol, welcome.features);
}

/** Bits set in both. Works above 32 bits, where the operators of the language do not. */
export function intersect(a: number, b: number): number {
  const low = (a & b) >>> 0;
  const high = (Math.floor(a / 4294967296) & Math.floor(b / 4294967296)) >>> 0;
  return high * 4294967296 + low;
}

function withFeatures(ours: Dialect, protocol: number, features: number): Agreement {
  if (intersect(ours.requiredFeatures, features) !== ours.requiredFeatures) {
    return {
      ok: false,
      code: "features",
      message: `This end needs features ${bits(ours.requiredFeatures)}, both know only ${bits(features)}; ` +
        "upgrade the older end",
    };
  }
  return { ok: true, protocol, features };
}

function versionRefused(ours: Dialect, theirs: number): Agreement {
  const span = ours.oldestProtocol === ours.newestProtocol
    ? `version ${ours.newestProtocol}`
    : `versions ${ours.oldestProtocol} to ${ours.newestProtocol}`;
  const older = theirs < ours.oldestProtocol ? "the other end" : "this end";
  return {
    ok: false,
    code: "protocol-version",
    message: `This end speaks protocol ${span}, the other end version ${theirs}; upgrade ${older}`,
  };
}

function bits(features: number): string {
  return `0x${features.toString(16)}`;
}
