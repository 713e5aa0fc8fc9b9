"""Run by Blender (`blender -b --python-exit-code 1 --python blender_sheet.py -- <folder> <file.glb>...`): render each
file with Cycles from its front left, as clay under a sun and a grey sky and then unlit, to <folder>/<number>-clay.png
and -unlit.png."""

import math
import sys

import bpy
import numpy as np
from mathutils import Vector

np.bool = np.bool_  # type: ignore[misc]  # Blender 3.4's glTF importer still asks for it
SIDE = 176
folder, *files = sys.argv[sys.argv.index("--") + 1 :]


def material(kind: str, colour: object) -> bpy.types.Material:
    """Nothing but a shader of this kind; colour: four numbers, or a picture."""
    made = bpy.data.materials.new(kind)
    made.use_nodes = True
    nodes, links = made.node_tree.nodes, made.node_tree.links
    shader = nodes.new(kind)
    if isinstance(colour, bpy.types.Image):
        texture = nodes.new("ShaderNodeTexImage")
        texture.image = colour
        links.new(texture.outputs["Color"], shader.inputs["Color"])
    else:
        shader.inputs["Color"].default_value = colour
    links.new(shader.outputs[0], nodes["Material Output"].inputs["Surface"])
    return made


def picture(thing: bpy.types.Object) -> bpy.types.Image:
    """The texture that came with it."""
    nodes = thing.data.materials[0].node_tree.nodes
    return next(node.image for node in nodes if node.type == "TEX_IMAGE")


for number, file in enumerate(files):
    bpy.ops.wm.read_factory_settings(use_empty=True)
    bpy.ops.import_scene.gltf(filepath=file)
    (thing,) = (each for each in bpy.data.objects if each.type == "MESH")
    scene = bpy.context.scene
    at = np.array([thing.matrix_world @ vertex.co for vertex in thing.data.vertices])
    centre = Vector((at.min(0) + at.max(0)) / 2)
    camera = bpy.data.objects.new("camera", bpy.data.cameras.new("camera"))
    away = Vector((-math.sin(math.radians(35)), -math.cos(math.radians(35)), 0.45)).normalized()
    camera.location, camera.data.angle = centre + 2.6 * away, math.radians(27)
    camera.rotation_mode, camera.rotation_quaternion = "QUATERNION", away.to_track_quat("Z", "Y")
    scene.collection.objects.link(camera)
    scene.camera = camera
    sun = bpy.data.objects.new("sun", bpy.data.lights.new("sun", "SUN"))
    sun.data.energy = 1.6
    sun.rotation_mode, sun.rotation_quaternion = "QUATERNION", Vector((-0.8, -0.5, 1)).to_track_quat("Z", "Y")
    scene.collection.objects.link(sun)
    scene.world = bpy.data.worlds.new("sky")
    scene.world.use_nodes = True
    scene.world.node_tree.nodes["Background"].inputs["Color"].default_value = (0.3, 0.31, 0.33, 1)
    scene.render.engine, scene.cycles.samples, scene.cycles.max_bounces = "CYCLES", 12, 2
    scene.cycles.use_denoising = False
    scene.view_settings.view_transform = "Standard"
    scene.render.resolution_x = scene.render.resolution_y = SIDE
    scene.render.film_transparent, scene.render.image_settings.color_mode = True, "RGBA"
    texture = picture(thing)
    for name, kind, colour in (
        ("clay", "ShaderNodeBsdfDiffuse", (0.6, 0.6, 0.6, 1)),
        ("unlit", "ShaderNodeEmission", texture),
    ):
        thing.data.materials.clear()
        thing.data.materials.append(material(kind, colour))
        scene.render.filepath = f"{folder}/{number:02d}-{name}.png"
        bpy.ops.render.render(write_still=True)
