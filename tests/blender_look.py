"""Run by Blender (`blender -b --python-exit-code 1 --python blender_look.py -- <file> <picture> <clay> <x> <y> <z>`):
import one file as a person would, say what is in it in one line of JSON, and render it with Cycles from the front on
nothing: as it is under a white sky and, into a second picture, as matte clay under a sun of irradiance pi from x, y, z,
without shadows."""

import json
import math
import sys

import bpy
import numpy as np
from mathutils import Vector

np.bool = np.bool_  # type: ignore[misc]  # Blender 3.4's glTF importer still asks for it
file, picture, clay, *towards = sys.argv[sys.argv.index("--") + 1 :]
bpy.ops.wm.read_factory_settings(use_empty=True)
importer = {
    "glb": lambda: bpy.ops.import_scene.gltf(filepath=file),
    "obj": lambda: bpy.ops.wm.obj_import(filepath=file),
    "ply": lambda: bpy.ops.import_mesh.ply(filepath=file),
}
importer[file.rpartition(".")[2]]()
(thing,) = (each for each in bpy.data.objects if each.type == "MESH")
mesh = thing.data
at = np.array([thing.matrix_world @ vertex.co for vertex in mesh.vertices])
normals = np.array([thing.matrix_world.to_3x3() @ polygon.normal for polygon in mesh.polygons])
centres = np.array([thing.matrix_world @ polygon.center for polygon in mesh.polygons])
area = np.array([polygon.area for polygon in mesh.polygons])
material = mesh.materials[0] if mesh.materials else None
nodes = list(material.node_tree.nodes) if material else []
images = [node.image for node in nodes if node.type == "TEX_IMAGE"]
colours = mesh.color_attributes[0] if mesh.color_attributes else None
told = {
    "object": thing.name,
    "material": material.name if material else None,
    "faces": len(mesh.polygons),
    "bounds": [at.min(0).tolist(), at.max(0).tolist()],
    "volume": float((centres * normals).sum(1) @ area) / 3,
    "custom_normals": mesh.has_custom_normals,
    "uv": bool(mesh.uv_layers),
    "images": [[list(image.size), image.colorspace_settings.name, bool(image.packed_file)] for image in images],
    "image_feeds": [link.to_socket.name for link in material.node_tree.links if link.from_node.type == "TEX_IMAGE"]
    if material
    else [],
    "colours": colours and [colours.domain, colours.data_type],
    "roughness": [node.inputs["Roughness"].default_value for node in nodes if node.type == "BSDF_PRINCIPLED"],
    "metallic": [node.inputs["Metallic"].default_value for node in nodes if node.type == "BSDF_PRINCIPLED"],
}
if colours:
    # As light, which is how Blender hands out what it has understood.
    every = np.array([list(each.color)[:3] for each in colours.data])
    spot = at
    if colours.domain == "CORNER":
        spot = spot[[loop.vertex_index for loop in mesh.loops]]
    told["light_by_height"] = [every[spot[:, 2] > np.median(spot[:, 2])].mean(0).tolist(), every.mean(0).tolist()]
scene = bpy.context.scene
camera = bpy.data.objects.new("camera", bpy.data.cameras.new("camera"))
camera.location, camera.rotation_euler = (0, -3, 0.5), (math.pi / 2, 0, 0)
camera.data.sensor_fit, camera.data.angle = "VERTICAL", math.radians(40)
scene.collection.objects.link(camera)
scene.camera = camera
scene.world = bpy.data.worlds.new("white")
scene.world.use_nodes = True
scene.world.node_tree.nodes["Background"].inputs["Color"].default_value = (1, 1, 1, 1)
scene.render.engine, scene.cycles.samples, scene.cycles.max_bounces = "CYCLES", 4, 1
scene.cycles.use_denoising = False
scene.view_settings.view_transform = "Standard"
scene.render.resolution_x = scene.render.resolution_y = 96
scene.render.film_transparent, scene.render.image_settings.color_mode = True, "RGBA"
scene.render.filepath = picture
bpy.ops.render.render(write_still=True)
scene.world.node_tree.nodes["Background"].inputs["Color"].default_value = (0, 0, 0, 1)
matte = bpy.data.materials.new("clay")
matte.use_nodes = True
links, nodes = matte.node_tree.links, matte.node_tree.nodes
diffuse = nodes.new("ShaderNodeBsdfDiffuse")
diffuse.inputs["Color"].default_value, diffuse.inputs["Roughness"].default_value = (0.5, 0.5, 0.5, 1), 0
links.new(diffuse.outputs["BSDF"], nodes["Material Output"].inputs["Surface"])
mesh.materials.clear()
mesh.materials.append(matte)
sun = bpy.data.objects.new("sun", bpy.data.lights.new("sun", "SUN"))
sun.data.energy, sun.data.angle, sun.data.cycles.cast_shadow = math.pi, 0, False
sun.rotation_mode, sun.rotation_quaternion = "QUATERNION", Vector(map(float, towards)).to_track_quat("Z", "Y")
scene.collection.objects.link(sun)
scene.render.filepath, scene.cycles.max_bounces = clay, 0
bpy.ops.render.render(write_still=True)
print("TOLD " + json.dumps(told))
