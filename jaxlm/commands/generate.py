"""Continue a text with a causal language model.

jaxlm generate --checkpoint=runs/gpt2 --temperature=0.8 'Once upon a time'
"""

from jaxlm import loading
from jaxlm.commands import _cli
from jaxlm.evaluation.generate import generate_text


def main(argv):
  """Prints each prompt with its continuation."""
  parser = _cli.parser("generate", __doc__)
  _cli.add_checkpoint(parser)
  parser.add_argument("--max_new_tokens", type=int, default=50)
  parser.add_argument("--temperature", type=float, default=0.0, help="0: best")
  parser.add_argument("--top_k", type=int, default=0, help="0: all tokens")
  parser.add_argument("--top_p", type=float, default=1.0, help="1: all tokens")
  parser.add_argument("--seed", type=int, default=0)
  parser.add_argument("prompt", nargs="+")
  args = _cli.parse(parser, argv)
  texts = generate_text(
    loading.load(args.checkpoint),
    args.prompt,
    max_new_tokens=args.max_new_tokens,
    temperature=args.temperature,
    top_k=args.top_k,
    top_p=args.top_p,
    seed=args.seed,
  )
  for prompt, text in zip(args.prompt, texts):
    print(f"{prompt}{text}\n")
