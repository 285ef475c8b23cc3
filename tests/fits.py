"""Makes the coefficient tables of the special functions: Chebyshev fits, Bernoulli numbers and Temme's series, by mpmath.

`python tests/fits.py` writes gradflow/ops/special_tables.py and kernels/special_tables.cuh, the same numbers in both.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import mpmath as mp

mp.mp.dps = 40
ROOT = Path(__file__).parent.parent


def fit(f: Callable[[Any], Any], low: float, high: float, most: int = 60) -> list[float]:
    """The Chebyshev coefficients of f on [low, high], down to 1e-17 of the largest."""
    n = most  # an even number of nodes: none is the middle, where some f are 0 / 0
    angles = [mp.pi * (k + mp.mpf(1) / 2) / n for k in range(n)]
    values = [f((mp.mpf(low) + high) / 2 + (mp.mpf(high) - low) / 2 * mp.cos(a)) for a in angles]
    c = [2 / mp.mpf(n) * sum(v * mp.cos(j * a) for v, a in zip(values, angles, strict=True)) for j in range(n)]
    c[0] /= 2
    top = max(map(abs, c))
    while abs(c[-1]) < top * mp.mpf("1e-17"):
        c.pop()
    assert len(c) < most - 4, "the fit has not converged"
    return [float(v) for v in c]


def erfcx(x: Any) -> Any:
    return mp.exp(x * x) * mp.erfc(x) if x < 100 else 1 / (mp.sqrt(mp.pi) * x) * mp.hyp2f0(1, 0.5, -1 / (x * x))


def quantile(r: Any) -> Any:
    """z with Q(z) = exp(-r^2 / 2), by Newton's method on log Q."""
    z = r - mp.log(r * mp.sqrt(2 * mp.pi)) / r if r > 2 else r / 2
    for _ in range(60):
        q = mp.erfc(z / mp.sqrt(2)) / 2
        step = (mp.log(q) + r * r / 2) * q / (mp.exp(-z * z / 2) / mp.sqrt(2 * mp.pi))
        z += step
        if abs(step) < mp.mpf("1e-35"):
            break
    return z


def waves(nu: int) -> tuple[Callable, Callable]:
    """P and Q x of J = sqrt(2 / (pi x)) (P cos c - Q sin c), c = x - (nu / 2 + 1 / 4) pi, as functions of (8 / x)^2."""

    def parts(v: Any) -> tuple[Any, Any]:
        x = 8 / mp.sqrt(v)
        c, size = x - (mp.mpf(nu) / 2 + mp.mpf(1) / 4) * mp.pi, mp.sqrt(mp.pi * x / 2)
        j, y = mp.besselj(nu, x), mp.bessely(nu, x)
        return size * (j * mp.cos(c) + y * mp.sin(c)), size * (y * mp.cos(c) - j * mp.sin(c)) * x

    return (lambda v: parts(v)[0]), (lambda v: parts(v)[1])


AIRY_LEFT, AIRY_RIGHT = 4, 2  # where Airy's function passes to its asymptotic forms


def airy_waves(derivative: int) -> tuple[Callable, Callable]:
    """f and g zeta of Ai(-z), or of Ai'(-z), as functions of (zeta(4) / zeta)^2."""

    def parts(v: Any) -> tuple[Any, Any]:
        zeta = mp.mpf(2) / 3 * mp.mpf(AIRY_LEFT) ** 1.5 / mp.sqrt(v)
        z = (zeta * 1.5) ** (mp.mpf(2) / 3)
        a, b = mp.airyai(-z, derivative=derivative), mp.airybi(-z, derivative=derivative)
        c, s = mp.cos(zeta - mp.pi / 4), mp.sin(zeta - mp.pi / 4)
        if derivative:
            size = mp.sqrt(mp.pi) / z ** mp.mpf("0.25")
            return size * (a * s + b * c), size * (b * s - a * c) * zeta
        size = mp.sqrt(mp.pi) * z ** mp.mpf("0.25")
        return size * (a * c - b * s), size * (a * s + b * c) * zeta

    return (lambda v: parts(v)[0]), (lambda v: parts(v)[1])


def airy_decay(derivative: int) -> Callable:
    """2 sqrt(pi) x^(1/4) e^zeta Ai(x), or -2 sqrt(pi) x^(-1/4) e^zeta Ai'(x), as a function of zeta(2) / zeta."""

    def f(v: Any) -> Any:
        zeta = mp.mpf(2) / 3 * mp.mpf(AIRY_RIGHT) ** 1.5 / v
        x = (zeta * 1.5) ** (mp.mpf(2) / 3)
        y = mp.airyai(x, derivative=derivative) * 2 * mp.sqrt(mp.pi) * mp.exp(zeta)
        return -y / x ** mp.mpf("0.25") if derivative else y * x ** mp.mpf("0.25")

    return f


def temme(rows: int, columns: int) -> list[list[float]]:
    """d[k][n] of C_k(eta) = sum d[k][n] eta^n in Temme's expansion of the incomplete gamma function (DLMF 8.12.8-11)."""
    size = columns + 2 * rows + 4
    # alpha: lambda - 1 as a series in eta, from eta d(lambda)/d(eta) = ... (DLMF 8.12.12)
    alpha = [Fraction(0), Fraction(1)]
    for n in range(2, size + 3):
        total = sum(j * alpha[j] * alpha[n + 1 - j] for j in range(2, n))
        alpha.append((alpha[n - 1] - total) / (n + 1))
    # Stirling's coefficients gamma_k = (-1)^k (sqrt(2) scaled odd alphas)
    odd = [Fraction(1)]
    for k in range(1, rows + 1):
        double_factorial = Fraction(1)
        for j in range(3, 2 * k + 2, 2):
            double_factorial *= j
        odd.append((-1) ** k * double_factorial * alpha[2 * k + 1])
    d = [[Fraction(0)] * size for _ in range(rows)]
    d[0] = [Fraction(-1, 3)] + [(n + 2) * alpha[n + 2] for n in range(1, size)]
    for k in range(1, rows):
        for n in range(size - 2 * k):
            d[k][n] = d[0][n] * odd[k] + (n + 2) * d[k - 1][n + 2]
    return [[float(v) for v in row[:columns]] for row in d]


def tables() -> dict[str, list[float]]:
    """All fits, by name."""
    ln, i, k = mp.log, mp.besseli, mp.besselk
    found = {
        "gamma_middle": fit(lambda v: mp.loggamma(v) / ((v - 1) * (v - 2)), 1.5, 2.5),
        "erfcx": fit(lambda t: (1 + 2 * (x := 3.75 * (1 + t) / (1 - t))) * erfcx(x), -1, 1, 90),
        "erfinv_middle": fit(lambda v: mp.erfinv(mp.sqrt(v)) / mp.sqrt(v), 0, 0.25),
        "quantile_near": fit(quantile, 1.6, 4),
        "quantile_far": fit(quantile, 4, 10),
        "quantile_end": fit(quantile, 10, 40),
        "j0_near": fit(lambda v: mp.besselj(0, mp.sqrt(v)), 0, 64),
        "j1_near": fit(lambda v: mp.besselj(1, mp.sqrt(v)) / mp.sqrt(v), 0, 64),
        "y0_near": fit(lambda v: mp.bessely(0, mp.sqrt(v)) - ln(v) / mp.pi * mp.besselj(0, mp.sqrt(v)), 0, 64),
        "y1_near": fit(
            lambda v: (mp.bessely(1, x := mp.sqrt(v)) - ln(v) / mp.pi * mp.besselj(1, x) + 2 / (mp.pi * x)) / x, 0, 64
        ),
        "i0_near": fit(lambda x: mp.exp(-x) * i(0, x), 0, 8),
        "i1_near": fit(lambda x: mp.exp(-x) * i(1, x) / x, 0, 8),
        "i0_far": fit(lambda v: mp.sqrt(8 / v) * mp.exp(-8 / v) * i(0, 8 / v), 0, 1),
        "i1_far": fit(lambda v: mp.sqrt(8 / v) * mp.exp(-8 / v) * i(1, 8 / v), 0, 1),
        "k0_near": fit(lambda v: k(0, x := mp.sqrt(v)) + ln(x / 2) * i(0, x), 0, 4),
        "k1_near": fit(lambda v: (k(1, x := mp.sqrt(v)) - ln(x / 2) * i(1, x)) * x, 0, 4),
        "k0_far": fit(lambda v: mp.sqrt(2 / v) * mp.exp(2 / v) * k(0, 2 / v), 0, 1),
        "k1_far": fit(lambda v: mp.sqrt(2 / v) * mp.exp(2 / v) * k(1, 2 / v), 0, 1),
    }
    for nu in (0, 1):
        p, q = waves(nu)
        found[f"p{nu}_far"], found[f"q{nu}_far"] = fit(p, 0, 1), fit(q, 0, 1)
    for derivative, name in ((0, "airy"), (1, "airy_slope")):
        f, g = airy_waves(derivative)
        found[f"{name}_left"] = fit(lambda x, n=derivative: mp.airyai(x, derivative=n), -AIRY_LEFT, -1)
        found[f"{name}_middle"] = fit(lambda x, n=derivative: mp.airyai(x, derivative=n), -1, AIRY_RIGHT)
        found[f"{name}_decay"] = fit(airy_decay(derivative), 0, 1)
        found[f"{name}_cos"], found[f"{name}_sin"] = fit(f, 0, 1), fit(g, 0, 1)
    return found


def powers() -> dict[str, list[float]]:
    """Coefficients of power series: Stirling's for log gamma, those of digamma and of Euler and Maclaurin's sum."""
    b = [mp.bernoulli(2 * k) for k in range(1, 13)]
    return {
        "stirling": [float(v / (2 * k * (2 * k - 1))) for k, v in enumerate(b[:8], 1)],
        "digamma_far": [float(v / (2 * k)) for k, v in enumerate(b[:8], 1)],
        "euler": [float(v / mp.factorial(2 * k)) for k, v in enumerate(b, 1)],
    }


def _lines(numbers: list[float], width: int, indent: str) -> list[str]:
    lines, line = [], indent
    for v in numbers:
        text = f"{v!r}, "
        if len(line) + len(text) > width:
            lines.append(line.rstrip())
            line = indent
        line += text
    return [*lines, line.rstrip()]


HEADER = """\
Coefficients of the special functions, made by tests/fits.py; kernels/special_tables.cuh has the same numbers.

CHEBYSHEV: c of sum c_k T_k(t), fitted in mpmath with 40 digits; tests/fits.py says of what function and on what interval.
POWERS: Bernoulli numbers over 2k (2k - 1), over 2k, and over (2k)!. TEMME: DLMF 8.12.8, rows by powers of 1 / a."""


def main() -> None:
    """Write the two files."""
    fits, series, d = tables(), powers(), temme(10, 22)
    out = [f'"""{HEADER}\n"""', "", "# fmt: off", "CHEBYSHEV = {"]
    for name, c in fits.items():
        out += [f'    "{name}": (', *_lines(c, 118, "        "), "    ),"]
    out += ["}", "POWERS = {"]
    for name, c in series.items():
        out += [f'    "{name}": (', *_lines(c, 118, "        "), "    ),"]
    out += ["}", "TEMME = ("]
    for row in d:
        out += ["    (", *_lines(row, 118, "        "), "    ),"]
    out += [")", ""]
    (ROOT / "gradflow/ops/special_tables.py").write_text("\n".join(out))

    text = [
        f"// {line}".rstrip()
        for line in HEADER.replace("kernels/special_tables.cuh", "gradflow/ops/special_tables.py").splitlines()
    ]
    text += [
        "#pragma once",
        "",
        "namespace table {",
        "// sum c_k T_k(t), by Clenshaw's recurrence; the loop is unrolled and the coefficients become immediates",
        "template <class A, int N> __device__ __forceinline__ A chebyshev(A t, const A (&c)[N]) {",
        "  A a = A(0), b = A(0);",
        "#pragma unroll",
        "  for (int k = N - 1; k > 0; --k) { const A next = A(2) * t * a - b + c[k]; b = a; a = next; }",
        "  return t * a - b + c[0];",
        "}",
        "// sum c_k z^k, by Horner's rule",
        "template <class A, int N> __device__ __forceinline__ A horner(A z, const A (&c)[N]) {",
        "  A a = c[N - 1];",
        "#pragma unroll",
        "  for (int k = N - 2; k >= 0; --k) a = a * z + c[k];",
        "  return a;",
        "}",
    ]
    for kind, named in (("chebyshev", fits), ("horner", series)):
        for name, c in named.items():
            wrapped = _lines(c, 118, "    ")
            if name == "euler":
                continue
            text += [f"template <class A> __device__ __forceinline__ A {name}(A t) {{", "  const A c[] = {"]
            text += [
                ", ".join(f"A({v})" for v in line.strip().strip(",").split(", ")).join(("    ", ","))
                for line in wrapped
            ]
            text += ["  };", f"  return {kind}(t, c);", "}"]
    text += [
        "// the corrections of Euler and Maclaurin to a sum of (a + k)^-s, for z = 1 / a^2 and term = s / a",
        "template <class A> __device__ __forceinline__ A euler(A s, A z, A term) {",
        "  const A c[] = {",
        *[
            ", ".join(f"A({v})" for v in line.strip().strip(",").split(", ")).join(("    ", ","))
            for line in _lines(series["euler"], 118, "    ")
        ],
        "  };",
        "  A rest = A(0);",
        "#pragma unroll",
        f"  for (int k = 0; k < {len(series['euler'])}; ++k) {{",
        "    rest += c[k] * term;",
        "    term *= (s + A(2 * k + 1)) * (s + A(2 * k + 2)) * z;",
        "  }",
        "  return rest;",
        "}",
    ]
    text += [
        "// Temme's C_k(eta) summed over powers of z = 1 / a",
        "template <class A> __device__ __forceinline__ A temme(A eta, A z) {",
        "  A total = A(0);",
    ]
    for row in reversed(d):
        text += ["  {", "    const A c[] = {"]
        text += [
            ", ".join(f"A({v})" for v in line.strip().strip(",").split(", ")).join(("      ", ","))
            for line in _lines(row, 118, "      ")
        ]
        text += ["    };", "    total = total * z + horner(eta, c);", "  }"]
    text += ["  return total;", "}", "}  // namespace table", ""]
    (ROOT / "kernels/special_tables.cuh").write_text("\n".join(text))


if __name__ == "__main__":
    main()
