"""CUDA text to C++ text: only what the headers cannot say is rewritten, line by line, so line numbers stay true."""

import re

# Headers that the card's own header replaces.
OURS = re.compile(
    r'^[ \t]*#[ \t]*include[ \t]*[<"](?:cuda_\w+|mma|device_\w+|math_constants|vector_types|sm_\w+|cooperative_groups'
    r'|assert|cassert|crt/\w+|cupy/[\w/]+)(?:\.h|\.hpp|\.cuh)?[>"].*$',
    re.M,
)
STD = re.compile(r"^([ \t]*#[ \t]*include[ \t]*)<cuda/std/(\w+)>", re.M)
ALIGNMENT = r"(?:alignas|__align__)\s*\((?:[^()]|\([^()]*\))*\)"
SHARED = re.compile(rf"((?:(?:extern|static|volatile|{ALIGNMENT})\s+)*)__shared__\s+([^;{{}}=]+);")
DECLARATOR = re.compile(r"^(?P<base>.*?)(?P<name>[A-Za-z_]\w*)\s*(?P<dims>(?:\[.*\])?)\s*$", re.S)
PLAIN = re.compile(
    r'extern\s+"C"\s+(?:__launch_bounds__\s*\([^)]*\)\s*)?__global__\s+(?:__launch_bounds__\s*\([^)]*\)\s*)?'
    r"void\s+(?:__launch_bounds__\s*\((?:[^()]|\([^()]*\))*\)\s*)?([A-Za-z_]\w*)\s*\("
)
# Kernels whose number of threads is limited by a literal: '__launch_bounds__(256, 2) void f('.
BOUNDS = re.compile(
    r"__launch_bounds__\s*\(\s*(\d+)\s*(?:,[^()]*)?\)\s*(?:__global__\s+)?(?:void\s+)?([A-Za-z_]\w*)\s*\("
)


def blank_comments(text):
    """The text with comments and string contents overwritten by spaces, every other character in its place."""

    def blank(m):
        s = m.group(0)
        if s[0] in "\"'":
            return s if s in ('"C"',) else s[0] + " " * (len(s) - 2) + s[-1]
        return re.sub(r"[^\n]", " ", s)

    return re.sub(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])+\'', blank, text, flags=re.S)


def split_declarators(text):
    """'float a[2], b[3]' -> ['float a[2]', ' b[3]']: at commas outside every bracket."""
    parts, depth, start = [], 0, 0
    for i, c in enumerate(text):
        depth += (c in "([{<") - (c in ")]}>")
        if c == "," and depth == 0:
            parts.append(text[start:i])
            start = i + 1
    return [*parts, text[start:]]


def shared_declaration(match, number):
    """The C++ for one __shared__ declaration: references into guarded, freshly poisoned memory."""
    qualifiers, body = match.group(1), match.group(2)
    aligns = re.findall(ALIGNMENT, qualifiers + body)
    align = "16" if not aligns else "(" + aligns[-1][aligns[-1].index("(") + 1 : -1] + ")"
    body = re.sub(rf"{ALIGNMENT}|\bvolatile\b", " ", body)
    first, *rest = split_declarators(body)
    m = DECLARATOR.match(first.strip())
    base = m["base"].strip()
    out = []
    for k, (name, dims) in enumerate([(m["name"], m["dims"])] + [split_name(r) for r in rest]):
        if "extern" in qualifiers:
            out.append(f"{base}* const {name} = static_cast<{base}*>(card_now.dynamic_shared);")
            continue
        tag = f"card_{name}_{number}_{k}"
        out.append(
            f"typedef {base} {tag} {dims}; static card_slot {tag}_slot;"
            f" {tag}& {name} = card_shared_array<{tag}>({tag}_slot, {align});"
        )
    return " ".join(out) + "\n" * match.group(0).count("\n")


def split_name(text):
    m = DECLARATOR.match(text.strip())
    return m["name"], m["dims"]


def translate(text):
    """A kernel's text as C++ for card.h."""
    text = STD.sub(r"\1<\2>", OURS.sub("", text))
    masked = blank_comments(text)
    pieces, at = [], 0
    for number, match in enumerate(SHARED.finditer(masked)):
        pieces += [text[at : match.start()], shared_declaration(match, number)]
        at = match.end()
    return "".join([*pieces, text[at:]])


def plain_kernels(text):
    """Names of the kernels that can be asked for by their plain name: those with C linkage."""
    return list(dict.fromkeys(PLAIN.findall(blank_comments(text))))


def launch_bounds(text):
    """The most threads per block by kernel name, where the text says so with a number."""
    return {name: int(threads) for threads, name in BOUNDS.findall(blank_comments(text))}


def exports(names):
    """The table at the end of a library: one row per kernel."""
    rows = "".join(f'  CARD_EXPORT("{n}", {n}),\n' for n in names)
    return f'\nextern "C" const card_export card_exports[] = {{\n{rows}  {{nullptr, nullptr, nullptr, 0}}}};\n'
