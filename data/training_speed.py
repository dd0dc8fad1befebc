"""Speed of training and encoding against PyTorch, of encoding also against OpenVINO: `python data/training_speed.py ROUNDS [--threads N]` adds rounds to data/training/speed.csv. Needs the extra `bench`.

With one thread, processor time is measured, which other processes hardly touch; with more, the clock on the wall, which needs a quiet machine.
"""
import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

KEPT = Path(__file__).parent / "training" / "speed.csv"
BATCH, LATENT = 16, 32
THREADS = int(os.environ.get("THREADS", 1))


def seconds(step, repeats: int = 8, warm: int = 2) -> float:
    "The median time of a call."
    clock = time.process_time if THREADS == 1 else time.perf_counter
    for _ in range(warm):
        step()
    times = []
    for _ in range(repeats):
        start = clock()
        step()
        times.append(clock() - start)
    return float(np.median(times))


def brains(count: int) -> np.ndarray:
    "Volumes of the right size; what they show does not matter to a clock."
    return np.random.default_rng(0).uniform(size=(count, 40, 48, 40, 1)).astype("float32")


def peak_mb() -> float:
    "The most memory this process has held."
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024


def keras_part(what: str) -> dict:
    "One measurement of this package."
    from msvae_nbdev.fast import quicken
    from msvae_nbdev.networks import add_linear, build_encoder, tf
    from msvae_nbdev.training import make_model, training_batches

    tf.config.threading.set_intra_op_parallelism_threads(THREADS)
    tf.config.threading.set_inter_op_parallelism_threads(THREADS)
    if what == "matmul":
        a = tf.random.normal((2048, 2048))
        product = tf.function(lambda: tf.reduce_sum(a @ a))
        return {"gflops": 2 * 2048**3 / seconds(lambda: product().numpy()) / 1e9}
    if what == "input":
        volumes = brains(320)
        batches = iter(training_batches(volumes, np.arange(320), BATCH, 0, 0, 4))
        return {"seconds_per_scan": seconds(lambda: next(batches), 40) / BATCH}
    if what == "encode":
        encoder, volumes = quicken(add_linear(build_encoder(LATENT))), brains(256)
        code = tf.function(lambda chunk: encoder(chunk, training=False)[0])
        return {"seconds_per_scan": seconds(lambda: [code(volumes[start:start + 32]).numpy() for start in range(0, 256, 32)], 5, 1) / 256}
    objective, batch = what.removeprefix("memory-"), 2 * BATCH if what.startswith("memory") else BATCH
    config = {"objective": objective, "latent_dim": LATENT, "seed": 0, "epochs": 10, "warmup_epochs": 0, "learning_rate": 2e-4, "precision": "float32", "linear": True,
              "options": {} if objective == "vae" else {"margin": 100.0}}
    model = make_model(config | {"warmup_epochs": 1}, brains(1)[0], 100)
    if objective != "vae":
        model.begin_game()
    step, volumes = tf.function(model.train_step), tf.constant(brains(batch))
    return {"seconds_per_scan": seconds(lambda: step(volumes)["loss"].numpy()) / batch, "peak_mb": peak_mb()}


def torch_networks(fused: bool):
    "The same two networks in PyTorch; where `fused`, with convolution and mean pooling as one convolution, which takes as long as our own way to do both."
    import torch
    from torch import nn

    def block(size, inputs):
        return [nn.Linear(inputs, 512, bias=False), nn.BatchNorm1d(512, momentum=0.1), nn.LeakyReLU(0.2), nn.Dropout(0.3)]

    def halving(inputs, count):
        return [nn.Conv3d(inputs, count, 4, 2, 1, bias=False)] if fused else [nn.Conv3d(inputs, count, 3, padding=1, bias=False), nn.AvgPool3d(2)]

    class Decoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.dense = nn.Sequential(*block(512, LATENT), nn.Linear(512, 9600, bias=False), nn.Unflatten(1, (64, 5, 6, 5)))
            ups = [(64, 32), (32, 16), (16, 1)]
            self.up = nn.Sequential(*[layer for a, b in ups for layer in (nn.BatchNorm3d(a), nn.LeakyReLU(0.2), nn.ConvTranspose3d(a, b, 4, 2, 1, bias=False))])
            self.linear = nn.Linear(LATENT, 76800).requires_grad_(False)
            self.scale, self.template = nn.Parameter(torch.tensor(0.2)), nn.Parameter(torch.zeros(1, 1, 40, 48, 40))

        def forward(self, latent):
            image = torch.sigmoid(self.scale * self.up(self.dense(latent)) + self.template)
            return torch.clamp(image + self.linear(latent).view(-1, 1, 40, 48, 40), 0, 1)

    class Encoder(nn.Module):
        def __init__(self):
            super().__init__()
            downs = [(1, 16), (16, 32), (32, 64)]
            self.down = nn.Sequential(*[layer for a, b in downs for layer in (*halving(a, b), nn.BatchNorm3d(b), nn.LeakyReLU(0.2))],
                                      nn.Flatten(), *block(512, 9600))
            self.mean, self.log_variance = nn.Linear(512, LATENT), nn.Linear(512, LATENT)
            self.linear = nn.Linear(76800, LATENT).requires_grad_(False)

        def forward(self, volumes):
            hidden = self.down(volumes)
            return self.mean(hidden) + self.linear(volumes.flatten(1)), self.log_variance(hidden)

    return Encoder(), Decoder()


def torch_part(what: str, channels_last: bool, fused: bool) -> dict:
    "One measurement of the peer."
    import torch

    torch.set_num_threads(THREADS)
    encoder, decoder = torch_networks(fused)
    batch = 2 * BATCH if what.startswith("memory") else 32 if what == "encode" else BATCH
    volumes = torch.from_numpy(np.moveaxis(brains(batch), -1, 1).copy())
    if channels_last:
        encoder, decoder = (network.to(memory_format=torch.channels_last_3d) for network in (encoder, decoder))
        volumes = volumes.contiguous(memory_format=torch.channels_last_3d)
    kl = lambda code: 0.5 * (code[0] ** 2 + code[1].exp() - 1 - code[1]).sum(1).mean()
    draw = lambda code: code[0] + (0.5 * code[1]).exp() * torch.randn_like(code[0])
    error = lambda images: ((volumes - images) ** 2).sum((1, 2, 3, 4)).mean()
    learnt = {network: [parameter for parameter in network.parameters() if parameter.requires_grad] for network in (encoder, decoder)}
    optimizers = [torch.optim.Adam(learnt[network], 2e-4) for network in (encoder, decoder)]

    def move(optimizer, network, gradients):
        for parameter, gradient in zip(learnt[network], gradients):
            parameter.grad = gradient
        optimizer.step()

    def vae_step():
        code = encoder(volumes)
        loss = error(decoder(draw(code))) + kl(code)
        gradients = torch.autograd.grad(loss, [*learnt[encoder], *learnt[decoder]])
        count = len(learnt[encoder])
        move(optimizers[0], encoder, gradients[:count])
        move(optimizers[1], decoder, gradients[count:])
        return loss.item()

    def introvae_step():
        code = encoder(volumes)
        images = decoder(torch.cat([draw(code), torch.randn_like(code[0])]))
        reconstruction = error(images[:len(volumes)])
        judged = encoder(images.detach())
        hinges = sum(torch.relu(100.0 - kl([part[half] for part in judged])) for half in (slice(batch), slice(batch, None)))
        loss = reconstruction + kl(code) + 0.5 * hinges
        move(optimizers[0], encoder, torch.autograd.grad(loss, learnt[encoder], retain_graph=True))
        shown = images.detach().requires_grad_()
        judged = encoder(shown)
        verdict = 0.5 * sum(kl([part[half] for part in judged]) for half in (slice(batch), slice(batch, None)))
        ends = torch.autograd.grad(verdict, shown)[0]
        move(optimizers[1], decoder, torch.autograd.grad([reconstruction, images], learnt[decoder], [torch.tensor(1.0), ends]))
        return loss.item()

    if what == "encode":
        encoder.eval()
        with torch.inference_mode():
            return {"seconds_per_scan": seconds(lambda: encoder(volumes)[0].numpy()) / batch}
    if what.endswith("introvae"): # as here: running statistics and no dropout during the game
        encoder.eval(), decoder.eval()
    return {"seconds_per_scan": seconds(introvae_step if what.endswith("introvae") else vae_step) / batch, "peak_mb": peak_mb()}


def openvino_part(eight_bits: bool) -> dict:
    "Encoding by an engine made for inference, in 32 bits or quantised after training."
    import tempfile

    from msvae_nbdev.fast import fuse
    from msvae_nbdev.int8 import load_openvino
    from msvae_nbdev.networks import add_linear, build_encoder

    (openvino, nncf), volumes = load_openvino(), brains(32)
    with tempfile.TemporaryDirectory() as folder:
        fuse(add_linear(build_encoder(LATENT))).export(f"{folder}/encoder.xml", format="openvino", verbose=False)
        network = openvino.Core().read_model(f"{folder}/encoder.xml")
        network.reshape([len(volumes), *volumes.shape[1:]])
        if eight_bits:
            network = nncf.quantize(network, nncf.Dataset([volumes]), preset=nncf.QuantizationPreset.MIXED, subset_size=1)
        settings = {"INFERENCE_NUM_THREADS": THREADS, "ENABLE_CPU_PINNING": False, "INFERENCE_PRECISION_HINT": "f32"}
        encode = openvino.Core().compile_model(network, "CPU", settings)
        return {"seconds_per_scan": seconds(lambda: encode(volumes)[0].sum()) / len(volumes)}


MEASUREMENTS = [("keras", "matmul"), ("keras", "vae"), ("torch", "vae"), ("torch-channels-last", "vae"), ("torch-fused", "vae"), ("keras", "introvae"), ("torch", "introvae"),
                ("torch-channels-last", "introvae"), ("torch-fused", "introvae"), ("keras", "input"), ("keras", "encode"), ("torch", "encode"), ("openvino", "encode"), ("openvino-int8", "encode"),
                ("keras", "memory-vae"), ("keras", "memory-introvae"), ("keras", "matmul")]


def add_round(threads: int) -> None:
    "Make all measurements once, each in its own process."
    import pandas as pd

    from msvae_nbdev.core import atomic_path

    rows = pd.read_csv(KEPT).to_dict("records") if KEPT.exists() else []
    number = max((row["round"] for row in rows), default=0) + 1
    for peer, what in MEASUREMENTS:
        load = os.getloadavg()[0]
        environment = os.environ | {"THREADS": str(threads), "OMP_NUM_THREADS": str(threads)}
        said = subprocess.run([sys.executable, __file__, "--measure", peer, what], capture_output=True, text=True, check=True, env=environment).stdout
        rows.append({"round": number, "threads": threads, "peer": peer, "what": what, **json.loads(said.splitlines()[-1]), "load": round(load, 1)})
        print(rows[-1], flush=True)
    with atomic_path(KEPT) as temporary:
        pd.DataFrame(rows).to_csv(temporary, index=False)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rounds", type=int, nargs="?", default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--measure", nargs=2)
    asked = parser.parse_args()
    if asked.measure:
        peer, what = asked.measure
        if peer.startswith("openvino"):
            print(json.dumps(openvino_part(peer.endswith("int8"))))
        else:
            print(json.dumps(keras_part(what) if peer == "keras" else torch_part(what, peer != "torch", peer == "torch-fused")))
    else:
        for _ in range(asked.rounds):
            add_round(asked.threads)
