"""Scenes drawn by OpenGL, on a GPU or by Mesa on the processor; no screen is needed."""

import sys
from typing import Any

import moderngl
import numpy as np
import numpy.typing as npt

from ffreid.errors import UserError, flat
from ffreid.pose.render.meshes import Floats, Mesh, Picture
from ffreid.pose.render.renderers import Image, Window
from ffreid.pose.render.scenes import Body, Scene

NEAR, FAR = 0.02, 60.0
SHADOWS = 512
"""Width of the map of shadows, pixels."""
LARGE = 400
"""Size of textures from which they are also kept in smaller sizes, pixels."""
_PLACE = """
#version 330
in vec3 vertex; in vec3 normal; in vec2 uv; in vec3 colour;
uniform mat4 pose, projection; uniform mat3 turn; uniform vec3 scale;
out vec3 place, facing, tint; out vec2 spot;
void main() {
    vec4 moved = pose * vec4(vertex * scale, 1.0);
    place = moved.xyz; facing = turn * (normal / scale); tint = colour; spot = uv;
    gl_Position = projection * moved;
}
"""
_NOTHING = "#version 330\nvoid main() {}"
_WHITE = "#version 330\nout float seen;\nvoid main() { seen = 1.0; }"
_SHADE = """
#version 330
in vec3 place, facing, tint; in vec2 spot;
uniform sampler2D picture; uniform sampler2DShadow shadows; uniform mat4 lamp;
uniform vec3 lights[2], colours[2], ambient, up, factor;
uniform float label, gloss, tiles, bias, soft;
layout(location = 0) out vec4 seen; layout(location = 1) out vec2 facts;
layout(location = 2) out float depth;
void main() {
    vec3 normal = normalize(facing), eye = -normalize(place);
    if (dot(normal, eye) < 0.0) normal = -normal;
    vec3 surface = texture(picture, spot * tiles).rgb * tint * factor; surface *= surface;
    vec3 light = ambient * (0.7 + 0.3 * dot(normal, up)); float specular = 0.0;
    vec4 at = lamp * vec4(place + bias * normal, 1.0); vec3 map = at.xyz / at.w * 0.5 + 0.5;
    float lit = 1.0;
    if (all(lessThan(abs(map - 0.5), vec3(0.5)))) {
        lit = 0.0;
        for (int i = 0; i < 4; i++)
            lit += texture(shadows, vec3(map.xy + soft * vec2(i / 2, i % 2), map.z)) / 4.0;
    }
    for (int i = 0; i < 2; i++) {
        vec3 towards = normalize(lights[i] - place);
        float shown = i == 0 ? lit : 1.0;
        light += shown * colours[i] * max(dot(normal, towards), 0.0);
        float half_way = max(dot(normal, normalize(towards + eye)), 0.0);
        for (int k = 0; k < 6; k++) half_way *= half_way;
        specular += shown * gloss * half_way;
    }
    seen = vec4(sqrt(surface * light + specular * 0.6), specular);
    facts = vec2(label / 255.0, dot(normal, eye)); depth = place.z;
}
"""


class OpenGL:
    """An OpenGL context with the meshes and textures that it was given."""

    def __init__(self) -> None:
        options: Any = {"backend": "egl"} if sys.platform.startswith("linux") else {}
        try:
            self.context = moderngl.create_context(standalone=True, require=330, **options)
        except Exception as error:  # moderngl raises Exception itself
            raise UserError(
                f"OpenGL cannot be used here: {flat(str(error))}",
                "use --renderer embree, or install Mesa, e.g. apt install libegl1 libgl1-mesa-dri",
            ) from error
        self.context.enable(moderngl.DEPTH_TEST)
        self.shade, self.cast, self.whiten = (
            self.context.program(vertex_shader=_PLACE, fragment_shader=fragment)
            for fragment in (_SHADE, _NOTHING, _WHITE)
        )
        self.shadows = self.context.depth_texture((SHADOWS, SHADOWS))
        self.shadows.compare_func = "<="
        self.shadows.repeat_x = self.shadows.repeat_y = False
        self.shadow_frame = self.context.framebuffer(depth_attachment=self.shadows)
        self.buffers: dict[int, tuple[Mesh, Any, Any]] = {}
        self.arrays: dict[tuple[int, int], Any] = {}
        self.textures: dict[int, tuple[Picture, Any]] = {}
        self.frames: dict[tuple[int, int], Any] = {}
        self.white = self.context.texture((1, 1), 3, b"\xff\xff\xff")

    def render(self, scene: Scene) -> Image:
        """Draw a scene, see `Renderer`."""
        lamp, bias = self._cast_shadows(scene)
        height, width = scene.size
        frame = self._frame((width, height), ((4, "f1"), (2, "f1"), (1, "f4")))
        frame.use()
        frame.clear(0.0, 0.0, 0.0, 0.0)
        shade: Any = self.shade
        world = scene.camera_from_world
        lights = [world[:, :3] @ light.place + world[:, 3] for light in scene.lights]
        shade["lights"].write(np.array(lights, np.float32).tobytes())
        colours = [light.colour for light in scene.lights]
        shade["colours"].write(np.array(colours, np.float32).tobytes())
        _set(shade, "projection", _projection(scene.intrinsics, (0, 0, width, height)))
        _set(shade, "lamp", lamp)
        shade["ambient"], shade["up"] = tuple(scene.ambient), tuple(world[:, 2])
        shade["bias"], shade["soft"] = bias, 1.2 / SHADOWS
        shade["picture"], shade["shadows"] = 0, 1
        self.shadows.use(1)
        for label, body in enumerate(scene.bodies, 1):
            self._texture(body.picture).use(0)
            shade["label"], shade["gloss"], shade["tiles"] = label, body.gloss, body.tiles
            shade["factor"] = body.tint
            self._draw(shade, scene, body)
        seen, facts = (
            np.frombuffer(frame.read(components=n, attachment=i, alignment=1), np.uint8)
            for i, n in enumerate((4, 2))
        )
        depth = np.frombuffer(frame.read(components=1, attachment=2, dtype="f4"), np.float32)
        seen, facts = seen.reshape(height, width, 4), facts.reshape(height, width, 2)
        return Image(
            np.ascontiguousarray(seen[:, :, :3]),
            depth.reshape(height, width),
            facts[:, :, 0].astype(np.int32),
            np.asarray(facts[:, :, 1] / 255, np.float32),
            np.asarray(seen[:, :, 3] / 255, np.float32),
        )

    def silhouette(self, scene: Scene, body: Body, window: Window) -> npt.NDArray[np.bool_]:
        """Draw a body alone, see `Renderer`."""
        _, _, width, height = window
        room = (-(-width // 128) * 128, -(-height // 128) * 128)
        frame = self._frame(room, ((1, "f1"),))
        frame.use()
        frame.viewport = (0, 0, width, height)
        frame.clear()
        _set(self.whiten, "projection", _projection(scene.intrinsics, window))
        self._draw(self.whiten, scene, body)
        seen = frame.read(viewport=(0, 0, width, height), components=1, alignment=1)
        return np.frombuffer(seen, np.uint8).reshape(height, width) > 0

    def _cast_shadows(self, scene: Scene) -> tuple[Floats, float]:
        """Draw what the first light sees: its projection (4, 4), and metres off the surface."""
        turn, offset = scene.camera_from_world[:, :3], scene.camera_from_world[:, 3]
        place = turn @ scene.lights[0].place + offset
        forward = offset - place  # to the pile's middle
        distance = float(np.linalg.norm(forward))
        forward = forward / distance
        right = np.cross(forward, turn[:, 0] if abs(forward @ turn[:, 0]) < 0.9 else turn[:, 1])
        right /= np.linalg.norm(right)
        view = np.eye(4)
        view[:3, :3] = [right, np.cross(forward, right), forward]
        view[:3, 3] = -view[:3, :3] @ place
        reach = min(1.7 * scene.width, 0.9 * distance)
        focal = SHADOWS / 2 * distance / reach
        matrix = np.array([[focal, 0, SHADOWS / 2], [0, focal, SHADOWS / 2], [0, 0, 1]])
        lamp = _projection(matrix, (0, 0, SHADOWS, SHADOWS)) @ view
        self.shadow_frame.use()
        self.shadow_frame.clear(depth=1.0)
        _set(self.cast, "projection", lamp)
        for body in scene.bodies:
            if max(body.scale) == 1 or max(body.scale) < scene.width:  # not the table and the room
                self._draw(self.cast, scene, body)
        return lamp, 2.5 * 2 * reach / SHADOWS

    def _draw(self, program: Any, scene: Scene, body: Body) -> None:
        pose = np.vstack([scene.camera_from_body(body), [0, 0, 0, 1]])
        _set(program, "pose", pose)
        program["scale"] = body.scale
        if "turn" in program:
            _set(program, "turn", pose[:3, :3])
        self._array(program, body.mesh).render()

    def _array(self, program: Any, mesh: Mesh) -> Any:
        key = id(mesh), id(program)
        if key not in self.arrays:
            if id(mesh) not in self.buffers:
                columns = [mesh.vertices, mesh.normals, mesh.uv, mesh.colours]
                rows = np.concatenate(columns, axis=1, dtype=np.float32)
                faces = self.context.buffer(mesh.faces.astype(np.int32).tobytes())
                self.buffers[id(mesh)] = mesh, self.context.buffer(rows.tobytes()), faces
            _, rows, faces = self.buffers[id(mesh)]
            names = ("vertex", "normal", "uv", "colour")
            sizes = dict(zip(names, ("3f", "3f", "2f", "3f"), strict=True))
            used = [name for name in names if name in program]
            layout = " ".join(
                sizes[name] if name in program else f"{4 * int(sizes[name][0])}x" for name in names
            )
            self.arrays[key] = self.context.vertex_array(
                program, [(rows, layout, *used)], index_buffer=faces
            )
        return self.arrays[key]

    def _texture(self, picture: Picture | None) -> Any:
        if picture is None:
            return self.white
        if id(picture) not in self.textures:
            flipped = np.ascontiguousarray(picture[::-1])
            size = (picture.shape[1], picture.shape[0])
            texture = self.context.texture(size, 3, flipped.tobytes(), alignment=1)
            if max(size) > LARGE:
                texture.build_mipmaps()
                texture.filter = (moderngl.LINEAR_MIPMAP_NEAREST, moderngl.LINEAR)
            self.textures[id(picture)] = picture, texture
        return self.textures[id(picture)][1]

    def _frame(self, size: tuple[int, int], layers: tuple[tuple[int, str], ...]) -> Any:
        if size not in self.frames:
            made = [self.context.texture(size, parts, dtype=kind) for parts, kind in layers]
            depth = self.context.depth_renderbuffer(size)
            self.frames[size] = self.context.framebuffer(made, depth)
        return self.frames[size]


def _set(program: Any, name: str, matrix: Floats) -> None:
    program[name].write(matrix.T.astype(np.float32).tobytes())


def _projection(matrix: Floats, window: Window) -> Floats:
    """(4, 4) of a camera matrix; the first row of the image is the first of OpenGL's."""
    (fx, skew, cx), (_, fy, cy), _ = matrix
    left, top, width, height = window
    deep = (FAR + NEAR) / (FAR - NEAR), -2 * FAR * NEAR / (FAR - NEAR)
    return np.array(
        [
            [2 * fx / width, 2 * skew / width, 2 * (cx - left + 0.5) / width - 1, 0],
            [0, 2 * fy / height, 2 * (cy - top + 0.5) / height - 1, 0],
            [0, 0, *deep],
            [0, 0, 1, 0],
        ]
    )


def open_renderer() -> OpenGL:
    """Start OpenGL."""
    return OpenGL()
