// @ts-check
// The names shown for the two models that a base may consist of; see setandseq_core/concept.py.

/** @type {Record<string, string>} */
export const EXPERTS = { high_noise: "high noise", low_noise: "low noise" };
