import js from "@eslint/js";

const BROWSER = [
  "AbortController", "Blob", "CSS", "CustomEvent", "Event", "FormData", "HTMLElement", "Image", "IntersectionObserver",
  "MutationObserver", "Node", "ResizeObserver", "URL", "URLSearchParams", "clearInterval", "clearTimeout", "console",
  "customElements", "document", "fetch", "getComputedStyle", "navigator", "performance", "reportError",
  "requestAnimationFrame", "setInterval", "setTimeout", "window",
];

export default [
  { ignores: ["node_modules/", ".venv*/", ".comfyui/", "build/"] },
  js.configs.recommended,
  {
    files: ["js/**/*.{js,mjs}"],
    languageOptions: { globals: Object.fromEntries(BROWSER.map((name) => [name, "readonly"])) },
    rules: {
      "eqeqeq": "error",
      "no-console": "error",
      "no-eval": "error",
      "no-implied-eval": "error",
      "no-restricted-properties": [
        "error",
        { property: "innerHTML", message: "Text from files is hostile: use textContent." },
        { property: "outerHTML", message: "Text from files is hostile: use textContent." },
        { property: "insertAdjacentHTML", message: "Text from files is hostile: use textContent." },
      ],
      "no-var": "error",
      "prefer-const": "error",
    },
  },
];
