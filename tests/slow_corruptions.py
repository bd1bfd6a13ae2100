"""The corruptions written out one image and, mostly, one pixel at a time, from their description: slow, to be compared.

``slow_corruption(image, name, severity, draws)`` takes one uint8 image (side, side, 3) and that image's draws.
"""

import colorsys
import math
from typing import Any

import cv2
import numpy as np
from scipy import ndimage, stats

from mocse_timm.corruptions.severities import strength


def truncated(values: np.ndarray) -> np.ndarray:
    return (np.clip(values, 0, 1) * 255).astype(np.uint8)


def gaussian_noise(image, c, normal):
    return truncated(image / 255.0 + c * normal)


def speckle_noise(image, c, normal):
    return truncated(image / 255.0 + image / 255.0 * (c * normal))


def shot_noise(image, c, uniform):
    return truncated(stats.poisson.ppf(uniform, image / 255 * c) / c)


def impulse_noise(image, c, replaced, white):
    result = image / 255.0
    for place in np.argwhere(replaced):
        result[tuple(place)] = 1.0 if white[tuple(place)] else 0.0
    return truncated(result)


def bell(sigma: float) -> list[float]:
    """Return a Gaussian's weights by distance 0, 1, 2 ..., cut at 4 sigmas; both sides sum to 1."""
    reach = int(4 * sigma + 0.5)
    weights = np.exp(-0.5 / sigma**2 * np.arange(-reach, reach + 1) ** 2)
    return list(weights[reach:] / weights.sum())


def gaussian_blur(image, c):
    return truncated(blurred(image / 255.0, c))


def blurred(values: np.ndarray, sigma: float) -> np.ndarray:
    weights = bell(sigma)
    for axis in (0, 1):
        side = values.shape[axis]
        result = np.empty_like(values)
        for i in range(side):
            rows = [values.take((max(i - j, 0), min(i + j, side - 1)), axis) for j in range(len(weights))]
            total = rows[0].take(0, axis) * weights[0]
            for row, weight in reversed(list(zip(rows[1:], weights[1:], strict=True))):
                total = total + (row.take(0, axis) + row.take(1, axis)) * weight
            result[(i, slice(None)) if axis == 0 else (slice(None), i)] = total
        values = result
    return values


def defocus_blur(image, c):
    radius, alias = c
    reach = 8 if radius <= 8 else radius
    disk = np.array([[y * y + x * x <= radius**2 for x in range(-reach, reach + 1)] for y in range(-reach, reach + 1)])
    softening = (3, 3) if radius <= 8 else (5, 5)
    kernel = cv2.GaussianBlur((disk / disk.sum()).astype(np.float32), softening, alias)
    channels = [ndimage.correlate(image[..., k] / 255.0, kernel, mode="mirror") for k in range(3)]
    return truncated(np.stack(channels, axis=-1))


def glass_blur(image, c, steps):
    sigma, reach, iterations = c
    image = truncated(blurred(image / 255.0, sigma))
    for iteration in range(iterations):
        remaining = iter(steps[iteration])
        for row in range(len(image) - reach, reach, -1):
            for column in range(len(image) - reach, reach, -1):
                dx, dy = (int(step) for step in next(remaining))
                image[row, column] = image[row + dy, column + dx]
    return truncated(blurred(image / 255.0, sigma))


def smeared(image, radius, sigma, angle):
    length = 2 * math.ceil(radius) + 1
    down, right = length * math.sin(math.radians(angle)), length * math.cos(math.radians(angle))
    weights = [math.exp(-(i**2) / (2 * sigma**2)) for i in range(length)]
    steps = [
        (math.ceil(i * down / math.hypot(down, right) - 0.5), math.ceil(i * right / math.hypot(down, right) - 0.5))
        for i in range(length)
    ]
    height, width = image.shape[:2]
    result = np.empty_like(image)
    for y, x in np.ndindex(height, width):
        rows = [min(max(y + dy, 0), height - 1) for dy, _ in steps]
        columns = [min(max(x + dx, 0), width - 1) for _, dx in steps]
        value = np.array(weights) / sum(weights) @ image[rows, columns]
        result[y, x] = np.floor(value * 257 + 0.5) // 257
    return result


def motion_blur(image, c, angle):
    radius, sigma = c
    return smeared(image, radius, sigma, angle)


def zoomed(image: np.ndarray, factor: float) -> np.ndarray:
    side = len(image)
    kept = math.ceil(side / factor)
    top = (side - kept) // 2
    centre = image[top : top + kept, top : top + kept]
    larger: Any = ndimage.zoom(centre, (factor, factor) + (1,) * (image.ndim - 2), order=1)
    trim = (len(larger) - side) // 2
    return larger[trim : trim + side, trim : trim + side]


def zoom_blur(image, c):
    values = (image / 255.0).astype(np.float32)
    total = np.zeros_like(values)
    for factor in c:
        total += zoomed(values, factor)
    return truncated((values + total) / (len(c) + 1))


def snow(image, c, normal, angle):
    mean, deviation, zoom, threshold, radius, sigma, kept = c
    layer = zoomed(mean + deviation * normal, zoom)
    layer = smeared(truncated(np.where(layer < threshold, 0, layer))[..., None], radius, sigma, angle) / 255
    values = (image / 255.0).astype(np.float32)
    grey = values @ np.array([0.299, 0.587, 0.114], np.float32)
    whitened = kept * values + (1 - kept) * np.maximum(values, grey[..., None] * 1.5 + 0.5)
    return truncated(whitened + layer + np.rot90(layer, 2))


def frost(image, c, which, place, folder, scale):
    ice = cv2.imread(str(folder / ("frost1.png", "frost2.png", "frost3.png", "frost4.jpg", "frost5.jpg")[which]))
    assert ice is not None
    ice = cv2.resize(ice, None, fx=scale, fy=scale)
    side = len(image)
    top, left = int(place[0] * (ice.shape[0] - side)), int(place[1] * (ice.shape[1] - side))
    piece = ice[top : top + side, left : left + side, [2, 1, 0]]
    return np.clip(c[0] * image.astype(float) + c[1] * piece, 0, 255).astype(np.uint8)


def cloud(uniform: np.ndarray, side: int, decay: float) -> np.ndarray:
    points, numbers, wobble, step = np.zeros((side, side)), iter(uniform), 100.0, side

    def fill(rows: range, columns: range, neighbours: list[tuple[int, int]]) -> None:
        for y in rows:
            for x in columns:
                mean = sum(points[(y + dy) % side, (x + dx) % side] for dy, dx in neighbours) / 4
                points[y, x] = mean + wobble * (2 * next(numbers) - 1) * wobble

    while step >= 2:
        half = step // 2
        cross = [(half, 0), (-half, 0), (0, half), (0, -half)]
        on, off = range(0, side, step), range(half, side, step)
        fill(off, off, [(dy, dx) for dy in (-half, half) for dx in (-half, half)])
        fill(on, off, cross)
        fill(off, on, cross)
        step, wobble = half, wobble / decay
    assert next(numbers, None) is None
    points -= points.min()
    return points / points.max()


def fog(image, c, uniform):
    side, brightest = len(image), image.max() / 255
    points = cloud(uniform, 1 << math.ceil(math.log2(side)), c[1])[:side, :side, None]
    return truncated((image / 255.0 + c[0] * points) * brightest / (brightest + c[0]))


def recoloured(image: np.ndarray, change: Any) -> np.ndarray:
    pixels = [colorsys.hsv_to_rgb(*change(*colorsys.rgb_to_hsv(*(pixel / 255.0)))) for pixel in image.reshape(-1, 3)]
    return truncated(np.array(pixels).reshape(image.shape))


def brightness(image, c):
    return recoloured(image, lambda hue, saturation, value: (hue, saturation, min(value + c, 1.0)))


def saturate(image, c):
    return recoloured(image, lambda hue, saturation, value: (hue, min(saturation * c[0] + c[1], 1.0), value))


def contrast(image, c):
    values = image / 255.0
    mean = values.mean(axis=(0, 1), keepdims=True)
    return truncated((values - mean) * c + mean)


def elastic_transform(image, c, moves, field):
    amplitude, sigma, largest = c
    side = len(image)
    middle, arm = side // 2, side // 3
    points = np.array([(middle + arm, middle + arm), (middle + arm, middle - arm), (middle - arm, middle - arm)], float)
    moved = points + largest * (2 * moves - 1)
    homogeneous = np.column_stack([moved, np.ones(3)])
    back = np.linalg.solve(homogeneous, points)  # (x, y, 1) of the result @ back = (x, y) in the image
    y, x = np.mgrid[:side, :side].astype(float)
    source = np.stack([x, y, np.ones_like(x)], axis=-1) @ back
    planes = [
        ndimage.map_coordinates(image[..., k] / 255.0, [source[..., 1], source[..., 0]], order=1, mode="mirror")
        for k in range(3)
    ]
    if amplitude:
        push = [
            amplitude * ndimage.gaussian_filter(2 * part - 1, sigma, mode="reflect", truncate=3.0) for part in field
        ]
        planes = [
            ndimage.map_coordinates(plane, [y + push[1], x + push[0]], order=1, mode="reflect") for plane in planes
        ]
    return truncated(np.stack(planes, axis=-1))


def shrunk(image: np.ndarray, size: int) -> np.ndarray:
    """Return rows averaged to ``size`` of them: each takes those whose middle lies in its box, rounded to whole."""
    scale = len(image) / size
    half = max(scale, 1.0) / 2
    rows = []
    for i in range(size):
        centre = (i + 0.5) * scale
        inside = [k for k in range(len(image)) if -half < k + 0.5 - centre <= half]
        rows.append(np.floor(image[inside].mean(axis=0) + 0.5))
    return np.array(rows)


def pixelate(image, c):
    for size in (int(len(image) * c), len(image)):
        across = shrunk(image.transpose(1, 0, 2), size).transpose(1, 0, 2)
        image = shrunk(across, size)
    return image.astype(np.uint8)


def jpeg_compression(image, c):
    halved = [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420]
    _, written = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, c, *halved])
    decoded = cv2.imdecode(written, cv2.IMREAD_COLOR)
    assert decoded is not None
    return decoded[..., ::-1]


def spatter(image, c, normal):
    mean, deviation, sigma, threshold, intensity, is_mud = c
    liquid = blurred(mean + deviation * normal, sigma)
    values = image / 255.0
    if is_mud:
        cover = blurred((liquid > threshold).astype(float), intensity)[..., None]
        cover = np.where(cover < 0.8, 0, cover)
        return truncated(values * (1 - cover) + np.array([63, 42, 20]) / 255 * cover)
    drops = (np.where(liquid < threshold, 0, liquid) * 255).astype(np.uint8)
    distance = cv2.distanceTransform(255 - cv2.Canny(drops, 50, 150), cv2.DIST_L2, 5)
    near = (ndimage.uniform_filter(np.minimum(distance, 20), 3, mode="mirror") + 1e-6).astype(np.uint8)
    counts = np.bincount(near.ravel(), minlength=256)
    first = int(np.flatnonzero(counts)[0])
    later = (np.cumsum(counts) - counts[first]) * (255 / max(near.size - counts[first], 1))
    even = np.rint(later[near]) if counts[first] < near.size else near
    emboss = ndimage.correlate(even.astype(float), np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]]), mode="mirror")
    relief = np.rint(ndimage.uniform_filter(np.clip(emboss, 0, 255), 3, mode="mirror"))
    light = drops * relief
    light = light / light.max() * intensity if light.max() else light
    return truncated(values + light[..., None] * np.array([175, 238, 238]) / 255)


def slow_corruption(image: np.ndarray, name: str, severity: int, draws: tuple = (), **options: Any) -> np.ndarray:
    return globals()[name](image, strength(name, len(image), severity), *draws, **options)
