/**
 * The version of this build, as nodes report it.
 *
 * @module
 */

import denoJson from "../../deno.json" with { type: "json" };

/** Semantic version. */
export const VERSION: string = denoJson.version;
