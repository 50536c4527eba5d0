/** What the modules that pages share take. */

/** What `h()` takes for a child: a function is an effect. */
export type Plain = Node | string | number | null | undefined | false;
export type Child = Plain | (() => Plain) | readonly Child[];
type Attribute = string | number | boolean | null | undefined;
/** What `h()` takes for properties: the element's own, and the attributes that are no properties. */
export type Props<E> = { [K in keyof E]?: K extends `on${string}` ? E[K] : E[K] | (() => E[K]) }
  & { [K in `aria-${string}` | `data-${string}`]?: Attribute | (() => Attribute) }
  & { class?: string | (() => string); role?: string; for?: string; datetime?: string; list?: string };
