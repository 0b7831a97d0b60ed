// Markdown into an allow-listed tree. What is not in these two unions cannot reach the screen:
// raw HTML becomes text, images become placeholders, links pass `linkTarget` or become text.

import type * as mdast from "mdast";
import { fromMarkdown, type Options } from "mdast-util-from-markdown";
import { gfmAutolinkLiteralFromMarkdown } from "mdast-util-gfm-autolink-literal";
import { gfmStrikethroughFromMarkdown } from "mdast-util-gfm-strikethrough";
import { gfmTableFromMarkdown } from "mdast-util-gfm-table";
import { gfmTaskListItemFromMarkdown } from "mdast-util-gfm-task-list-item";
import { gfmAutolinkLiteral } from "micromark-extension-gfm-autolink-literal";
import { gfmStrikethrough } from "micromark-extension-gfm-strikethrough";
import { gfmTable } from "micromark-extension-gfm-table";
import { gfmTaskListItem } from "micromark-extension-gfm-task-list-item";
import { linkTarget, type LinkTarget } from "./links";

export type Inline =
  | { type: "text"; text: string }
  | { type: "emphasis"; children: Inline[] }
  | { type: "strong"; children: Inline[] }
  | { type: "deleted"; children: Inline[] }
  | { type: "code"; text: string }
  | { type: "break" }
  | { type: "link"; target: LinkTarget; children: Inline[] }
  | { type: "image"; description: string; host: string | null };

export type Alignment = "left" | "center" | "right" | null;

export interface ListItem {
  /** Null where the item is no task. */
  checked: boolean | null;
  children: Block[];
}

export type Block =
  | { type: "paragraph"; children: Inline[] }
  | { type: "heading"; depth: number; children: Inline[] }
  | { type: "list"; ordered: boolean; start: number; loose: boolean; items: ListItem[] }
  | { type: "quote"; children: Block[] }
  | { type: "code"; language: string; text: string }
  | { type: "table"; align: Alignment[]; head: Inline[][]; rows: Inline[][][] }
  | { type: "rule" }
  /** Raw HTML and what is too intricate to parse: shown as it was written. */
  | { type: "plain"; text: string };

const options: Options = {
  extensions: [
    gfmAutolinkLiteral(),
    gfmStrikethrough({ singleTilde: false }),
    gfmTable(),
    gfmTaskListItem(),
  ],
  mdastExtensions: [
    gfmAutolinkLiteralFromMarkdown(),
    gfmStrikethroughFromMarkdown(),
    gfmTableFromMarkdown(),
    gfmTaskListItemFromMarkdown(),
  ],
};

const DEEPEST_NESTING = 16;
const LONGEST_SOURCE = 40_000;
const MOST_DELIMITERS = 2_500;
const LONGEST_LANGUAGE = 40;
const DELIMITERS = /[*_`~[\]<|&]/gu;
const DEEP_CONTAINERS = /^(?:[ \t]*(?:>|[-+*](?=[ \t])|\d{1,9}[.)](?=[ \t]))){12,}/mu;

/**
 * Parsing is quadratic in delimiters and recursive in containers. Text beyond these bounds is
 * never written for reading; it is shown as it is, so that the window stays awake.
 */
function isTooIntricate(source: string): boolean {
  if (source.length > LONGEST_SOURCE || DEEP_CONTAINERS.test(source)) return true;
  return (source.match(DELIMITERS)?.length ?? 0) > MOST_DELIMITERS;
}

/** A fenced block at the left edge, which needs no parser and may be long. */
function fencedBlock(source: string): Block | null {
  const opening = /^(`{3,}|~{3,})[ \t]*([^\n]*)(?:\n|$)/u.exec(source);
  if (!opening?.[1] || (opening[1].startsWith("`") && opening[2]?.includes("`"))) return null;
  const fence = opening[1];
  const body = source.slice(opening[0].length);
  const closing = new RegExp(`^ {0,3}${fence}${fence.charAt(0)}*[ \\t]*$`, "mu").exec(body);
  if (closing && body.slice(closing.index + closing[0].length).trim() !== "") return null;
  const text = closing ? body.slice(0, closing.index) : body;
  return codeBlock(opening[2]?.trim().split(/\s/u)[0] ?? "", text.replace(/\n$/u, ""));
}

function codeBlock(language: string, text: string): Block {
  return { type: "code", language: language.slice(0, LONGEST_LANGUAGE), text };
}

/**
 * Parses one piece of Markdown (CommonMark with GFM tables, strikethrough, task lists and literal
 * autolinks). Never throws and never takes long: what is too intricate comes back as plain text.
 * `definitions` are the link reference definitions of the whole text, one a line.
 */
export function parseMarkdown(source: string, definitions = ""): Block[] {
  const fenced = fencedBlock(source);
  if (fenced) return [fenced];
  if (isTooIntricate(source)) return [{ type: "plain", text: source }];
  const complete = definitions === "" ? source : `${definitions}\n\n${source}`;
  const root = fromMarkdown(complete, options);
  const references = new Map<string, string>();
  for (const node of root.children) collectDefinitions(node, references);
  return blocks(root.children, { references, depth: 0 });
}

interface Context {
  references: Map<string, string>;
  depth: number;
}

function collectDefinitions(node: mdast.Nodes, references: Map<string, string>): void {
  if (node.type === "definition" && !references.has(node.identifier)) {
    references.set(node.identifier, node.url);
  }
  if ("children" in node) {
    for (const child of node.children) collectDefinitions(child, references);
  }
}

function blocks(nodes: mdast.RootContent[], context: Context): Block[] {
  return nodes.flatMap((node) => block(node, context));
}

function inner(context: Context): Context {
  return { ...context, depth: context.depth + 1 };
}

function block(node: mdast.RootContent, context: Context): Block[] {
  if (context.depth > DEEPEST_NESTING) return [{ type: "plain", text: textOf(node) }];
  switch (node.type) {
    case "paragraph":
      return [{ type: "paragraph", children: inlines(node.children, context) }];
    case "heading":
      return [{ type: "heading", depth: node.depth, children: inlines(node.children, context) }];
    case "blockquote":
      return [{ type: "quote", children: blocks(node.children, inner(context)) }];
    case "list":
      return [list(node, context)];
    case "code":
      return [codeBlock(node.lang ?? "", node.value)];
    case "table":
      return [table(node, context)];
    case "thematicBreak":
      return [{ type: "rule" }];
    case "html":
      return [{ type: "plain", text: node.value }];
    default:
      return [];
  }
}

function list(node: mdast.List, context: Context): Block {
  const items = node.children.map((item) => ({
    checked: item.checked ?? null,
    children: blocks(item.children, inner(context)),
  }));
  return {
    type: "list",
    ordered: node.ordered ?? false,
    start: node.start ?? 1,
    loose: node.spread === true || node.children.some((item) => item.spread === true),
    items,
  };
}

function table(node: mdast.Table, context: Context): Block {
  const rows = node.children.map((row) =>
    row.children.map((cell) => inlines(cell.children, context)),
  );
  const [head = [], ...body] = rows;
  // A row that is still being written has fewer cells; it is shown in its full width already.
  const full = body.map((row) => [
    ...row,
    ...Array<Inline[]>(Math.max(0, head.length - row.length)).fill([]),
  ]);
  return { type: "table", align: node.align ?? [], head, rows: full };
}

function inlines(nodes: mdast.PhrasingContent[], context: Context): Inline[] {
  return nodes.flatMap((node) => inline(node, inner(context)));
}

function inline(node: mdast.PhrasingContent, context: Context): Inline[] {
  if (context.depth > DEEPEST_NESTING) return [{ type: "text", text: textOf(node) }];
  switch (node.type) {
    case "text":
      return [{ type: "text", text: node.value }];
    case "html":
      return [{ type: "text", text: node.value }];
    case "inlineCode":
      return [{ type: "code", text: node.value }];
    case "break":
      return [{ type: "break" }];
    case "emphasis":
    case "strong":
      return [{ type: node.type, children: inlines(node.children, context) }];
    case "delete":
      return [{ type: "deleted", children: inlines(node.children, context) }];
    case "link":
      return link(node.url, inlines(node.children, context));
    case "linkReference":
      return link(context.references.get(node.identifier) ?? "", inlines(node.children, context));
    case "image":
      return [image(node.alt ?? "", node.url)];
    case "imageReference":
      return [image(node.alt ?? "", context.references.get(node.identifier) ?? "")];
    default:
      return [];
  }
}

/** A refused link keeps its words and loses its address. */
function link(address: string, children: Inline[]): Inline[] {
  const target = linkTarget(address);
  return target ? [{ type: "link", target, children }] : children;
}

function image(description: string, address: string): Inline {
  return { type: "image", description, host: linkTarget(address)?.host ?? null };
}

function textOf(node: mdast.Nodes): string {
  if ("value" in node) return node.value;
  return "children" in node ? node.children.map(textOf).join(" ") : "";
}
