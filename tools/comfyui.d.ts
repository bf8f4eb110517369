// What ComfyUI's interface gives to extensions and its published types leave out.

declare module "*/scripts/app.js" {
  export const app: import("@comfyorg/comfyui-frontend-types").ComfyApp;
}

declare module "*/scripts/api.js" {
  export const api: import("@comfyorg/comfyui-frontend-types").ComfyApi;
}

type GraphNode = Parameters<NonNullable<import("@comfyorg/comfyui-frontend-types").ComfyExtension["nodeCreated"]>>[0] & {
  comfyClass?: string;
  onExecuted?(output: Record<string, unknown>): void;
  addDOMWidget<T extends HTMLElement>(
    name: string,
    type: string,
    element: T,
    options?: import("@comfyorg/comfyui-frontend-types").DOMWidgetOptions<string>,
  ): import("@comfyorg/comfyui-frontend-types").DOMWidget<T, string> & { serialize?: boolean };
};
