// @ts-check
// Versions of a concept: saving "bee" again makes "bee_2".

/**
 * The name of a concept without its version, and the version.
 * @param {string} file
 */
export function versionOf(file) {
  const [, name = file, number = "1"] = /^(.*?)(?:_(\d+))?\.safetensors$/.exec(file) ?? [];
  return { name, version: Number(number) };
}

/**
 * The newest version of a concept.
 * @param {string} file
 * @param {string[]} files
 */
export function newestVersion(file, files) {
  const { name } = versionOf(file);
  const versions = files.filter((each) => versionOf(each).name === name);
  return versions.reduce((newest, each) => (versionOf(each).version > versionOf(newest).version ? each : newest), file);
}
