// The exact interval of a binomial share (Clopper & Pearson 1934), from the regularised incomplete beta function.
const clopperPearson = (hits, n, confidence) => {
  const logGamma = (x) => {  // Lanczos approximation, g = 7
    const parts = [676.5203681218851, -1259.1392167224028, 771.32342877765313, -176.61502916214059,
      12.507343278686905, -0.13857109526572012, 9.9843695780195716e-6, 1.5056327351493116e-7];
    const sum = parts.reduce((total, part, index) => total + part / (x + index), 0.99999999999980993);
    return 0.5 * Math.log(2 * Math.PI) + (x - 0.5) * Math.log(x + 6.5) - (x + 6.5) + Math.log(sum);
  };
  const fraction = (a, b, x) => {  // continued fraction of the incomplete beta function, modified Lentz's method
    const safe = (value) => (Math.abs(value) < 1e-300 ? 1e-300 : value);
    let c = 1, d = 1 / safe(1 - ((a + b) * x) / (a + 1)), result = d;
    for (let m = 1; m < 10000; m++) {
      for (const term of [(m * (b - m) * x) / ((a + 2 * m - 1) * (a + 2 * m)),
        (-(a + m) * (a + b + m) * x) / ((a + 2 * m) * (a + 2 * m + 1))]) {
        d = 1 / safe(1 + term * d);
        c = safe(1 + term / c);
        result *= d * c;
      }
      if (Math.abs(d * c - 1) < 1e-15) break;
    }
    return result;
  };
  const incompleteBeta = (a, b, x) => {
    const front = Math.exp(logGamma(a + b) - logGamma(a) - logGamma(b) + a * Math.log(x) + b * Math.log1p(-x));
    return x < (a + 1) / (a + b + 2) ? (front * fraction(a, b, x)) / a : 1 - (front * fraction(b, a, 1 - x)) / b;
  };
  const quantile = (a, b, share) => {
    let low = 0, high = 1;
    for (let step = 0; step < 60; step++) {
      const middle = (low + high) / 2;
      if (incompleteBeta(a, b, middle) < share) low = middle; else high = middle;
    }
    return (low + high) / 2;
  };
  const tail = (1 - confidence) / 2;
  return [hits <= 0 ? 0 : quantile(hits, n - hits + 1, tail), hits >= n ? 1 : quantile(hits + 1, n - hits, 1 - tail)];
};
